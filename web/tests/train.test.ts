import { expect, test } from "vitest";
import { tables, wantedOf } from "../src/train/recipe";

test("a recipe is what the program makes of its options", () => {
  const wanted = { ...wantedOf({ name: "emoji", native: [64, 64] }), noun: "apple" };
  expect(tables(wanted)).toEqual({
    name: "apple", tuner: "dreambooth", model: { start: "emoji" },
    subject: { noun: "apple", name: "zwx", wording: "{}", prior: 1, class_pictures: 64, text: false, upsampler: false, vectors: 1 },
    adapter: { rank: 16, alpha: 16, targets: ["attention", "conv", "embedding"] },
    objective: { times: "uniform", weighting: "min-snr" },
    optim: {
      batch: 4, steps: 120, rate: 0.005, warmup: 20, decay_from: 0.5, ema: 0.99, weight_decay: 0.01, dtype: "float32",
      optimizer: "adamw",
    },
    run: { seed: 0, log: 10, grid: 30, judge: 30, save_minutes: 1 },
  });
  expect(tables(wantedOf({ name: "sd", native: [512, 512] })).optim.steps).toBe(800);
});
