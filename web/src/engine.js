// The page's side of its workers: promises for answers, callbacks for what happens on the way.

const LIMIT = 30_000; // milliseconds to read a file

/** A worker, and the requests that it has not answered. */
class Thread {
  constructor(url) {
    this.worker = new Worker(url, { type: "module" });
    this.waiting = new Map();
    this.last = 0;
    this.worker.onmessage = ({ data: { id, event, result, error } }) => {
      const entry = this.waiting.get(id);
      if (event) return entry.tell?.(event);
      this.waiting.delete(id);
      return error ? entry.reject(new Error(error)) : entry.resolve(result);
    };
    this.worker.onerror = () => this.#settle("errors.crashed");
  }

  ask(type, request, tell) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, tell });
      this.worker.postMessage({ id, type, ...request });
    });
  }

  /** Terminate the worker; requests without an answer fail with the error, or resolve to null if there is none. */
  end(error = null) {
    this.worker.terminate();
    this.#settle(error);
  }

  #settle(error) {
    for (const { resolve, reject } of this.waiting.values()) {
      if (error) reject(new Error(error));
      else resolve(null);
    }
    this.waiting.clear();
  }
}

export class Engine {
  constructor(url = new URL("worker.js", import.meta.url), limit = LIMIT) {
    Object.assign(this, { url, limit });
    this.networks = new Thread(url);
    this.file = null; // worker of the file that is open
    this.opening = null; // worker of the file that is being read
    this.picture = null; // slice or picture that a run segments
    this.running = 0;
  }

  /** Load a checkpoint by name; tell is given { stage, share }. */
  load(name, tell, backend = "auto") {
    return this.networks.ask("load", { name, backend }, tell);
  }

  /**
   * Read a file's bytes, the middle slice along the axis or along one with larger slices; rule is the intensity of a
   * checkpoint. Null if another file was opened meanwhile. A file that is refused leaves the one before open.
   */
  async open(bytes, axis = 2, rule = null) {
    this.opening?.end();
    const file = (this.opening = new Thread(this.url)); // one for each file: a decoder may never return from a damaged one
    const timer = setTimeout(() => file.end("errors.slow"), this.limit);
    try {
      const answer = await file.ask("open", { bytes, axis, rule });
      if (!answer) return null;
      this.file?.end();
      this.file = file;
      this.picture = answer.picture;
      return answer;
    } catch (error) {
      file.end();
      throw error;
    } finally {
      clearTimeout(timer);
      if (this.opening === file) this.opening = null;
    }
  }

  /** Extract another slice of the volume that is open; without a window the rule decides. Null if another file was opened. */
  async slice(axis, index, window = null, rule = null) {
    const answer = await this.file.ask("slice", { axis, index, window, rule });
    if (answer) this.picture = answer.picture;
    return answer;
  }

  /** Segment the open picture; tell is given the start and every step. The temperature is the checkpoint's by default. */
  run(settings, tell, temperature = null) {
    this.running++;
    const request = { number: this.running, picture: this.picture, settings, temperature };
    return this.networks.ask("run", request, tell);
  }

  /** Stop the run in progress after its current step. */
  cancel() {
    this.networks.worker.postMessage({ type: "cancel", number: this.running });
  }
}
