// Small choices that this browser keeps, such as language and theme; without storage, for now alone.
const held = new Map<string, string>();

function storage(): Storage | undefined {
  try {
    return globalThis.localStorage;
  } catch {
    return undefined; // refused by the browser's settings
  }
}

export function kept(name: string): string | undefined {
  return storage()?.getItem(`sfumato.${name}`) ?? held.get(name);
}

export function keep(name: string, value: string): void {
  held.set(name, value);
  try {
    storage()?.setItem(`sfumato.${name}`, value);
  } catch {
    return; // full: it holds until the page is closed
  }
}
