// Files of this site.

/** Fail with a key of the texts. */
export function offline() {
  throw new Error("errors.network");
}

/** Fetch a file; without a connection, or without such a file, throw an Error whose message is a key of the texts. */
export async function get(url) {
  const response = await fetch(url).catch(offline);
  return response.ok ? response : offline();
}
