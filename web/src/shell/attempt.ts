// Something that may fail, whose failure is said in a sentence.
import { sentence } from "../api/problem";
import { notify } from "./notices.svelte";

export async function attempt(act: () => Promise<unknown>): Promise<void> {
  try {
    await act();
  } catch (error) {
    notify(sentence(error), "bad");
  }
}
