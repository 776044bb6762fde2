// SHA-256 of bytes, by which the server names pictures. Over plain http from another machine a
// browser has no crypto.subtle, so a small implementation is loaded then.

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export async function sha256(blob: Blob): Promise<string> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return hex(globalThis.crypto.subtle ? await native(bytes) : await portable(bytes));
}

async function native(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

export async function portable(bytes: Uint8Array): Promise<Uint8Array> {
  const { sha256: digest } = await import("@noble/hashes/sha2.js");
  return digest(bytes);
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => HEX[byte]).join("");
}

/** An id that no other has; crypto.randomUUID is missing over plain http. */
export function newId(): string {
  return hex(crypto.getRandomValues(new Uint8Array(12)));
}
