// The page's side of the worker: promises for answers, callbacks for what happens on the way.

export class Engine {
  constructor(url = new URL("worker.js", import.meta.url)) {
    this.worker = new Worker(url, { type: "module" });
    this.waiting = new Map();
    this.last = 0;
    this.running = 0;
    this.worker.onmessage = ({ data: { id, event, result, error } }) => {
      const entry = this.waiting.get(id);
      if (event) return entry.tell?.(event);
      this.waiting.delete(id);
      return error ? entry.reject(new Error(error)) : entry.resolve(result);
    };
    this.worker.onerror = () => {
      for (const { reject } of this.waiting.values()) reject(new Error("errors.crashed"));
      this.waiting.clear();
    };
  }

  #ask(type, request, tell) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, tell });
      this.worker.postMessage({ id, type, ...request });
    });
  }

  /** Load a checkpoint by name; tell is given { stage, share }. */
  load(name, tell, backend = "auto") {
    return this.#ask("load", { name, backend }, tell);
  }

  /** Read a file's bytes, the middle slice along the axis or along one with larger slices; rule is the intensity of a checkpoint. */
  open(bytes, axis = 2, rule = null) {
    return this.#ask("open", { bytes, axis, rule });
  }

  /** Extract another slice of the volume that is open; without a window the rule decides. */
  slice(axis, index, window = null, rule = null) {
    return this.#ask("slice", { axis, index, window, rule });
  }

  /** Segment the open picture; tell is given the start and every step. The temperature is the checkpoint's by default. */
  run(settings, tell, temperature = null) {
    this.running = this.last + 1;
    return this.#ask("run", { number: this.running, settings, temperature }, tell);
  }

  /** Stop the run in progress after its current step. */
  cancel() {
    this.worker.postMessage({ type: "cancel", number: this.running });
  }
}
