// A training recipe of a subject, as tables; what the program's `dreambooth` makes of its options.

export interface Wanted {
  model: string;
  /** Large models of latents learn in smaller steps than small ones of pixels. */
  latent: boolean;
  /** What the pictures show, such as dog. */
  noun: string;
  /** The word that will mean this one. */
  name: string;
  steps: number;
  rank: number;
  /** How much the model keeps to other things of the class. */
  prior: number;
}

export const STEPS = { pixels: 120, latent: 800 };

const PIXELS = { rank: 16, rate: 5e-3, batch: 4, wording: "{}", targets: ["attention", "conv", "embedding"] };
const LATENT = { rank: 8, rate: 1e-4, batch: 1, wording: "a {}", targets: ["attention"] };
const WARMUP = 20; // steps

export function wantedOf(model: { name: string; native: readonly number[] } | undefined): Wanted {
  const latent = (model?.native[0] ?? 0) > 256;
  return {
    model: model?.name ?? "", latent, noun: "", name: "zwx", prior: 1,
    steps: latent ? STEPS.latent : STEPS.pixels, rank: (latent ? LATENT : PIXELS).rank,
  };
}

export function tables(wanted: Wanted) {
  const kind = wanted.latent ? LATENT : PIXELS;
  const { steps, rank } = wanted;
  const shown = Math.max(Math.floor(steps / 4), 1);
  return {
    name: wanted.noun.trim().slice(0, 60) || "subject",
    tuner: "dreambooth",
    model: { start: wanted.model },
    subject: {
      noun: wanted.noun.trim(), name: wanted.name.trim(), wording: kind.wording, prior: wanted.prior,
      class_pictures: 64, text: false, upsampler: false, vectors: 1,
    },
    adapter: { rank, alpha: rank, targets: kind.targets },
    objective: { times: "uniform", weighting: "min-snr" },
    optim: {
      batch: kind.batch, steps, rate: kind.rate, warmup: Math.min(WARMUP, steps), decay_from: 0.5, ema: 0.99,
      weight_decay: 0.01, dtype: "float32", optimizer: "adamw",
    },
    run: { seed: 0, log: Math.min(10, shown), grid: shown, judge: shown, save_minutes: 1 },
  };
}
