// Curves of a training, from the tables that its run keeps.
import { number } from "../film/curve";
import { table } from "../film/table";

export interface Line {
  name: string;
  points: { step: number; value: number }[];
}

const OTHER = new Set(["step", "seconds", "pictures/s", "rate"]);

/** The lines of log.csv or heldout.csv: one for each column that is measured. */
export function lines(text: string): Line[] {
  const { columns, rows } = table(text);
  return columns.filter((name) => !OTHER.has(name)).flatMap((name) => {
    const points = rows.flatMap((row) => {
      const [step, value] = [number(row.get("step")), number(row.get(name))];
      return step === null || value === null ? [] : [{ step, value }];
    });
    return points.length ? [{ name, points }] : [];
  });
}

/** The newest of a training's grids, which are named by their step. */
export function grids<F extends { name: string }>(files: readonly F[]): { step: number; file: F }[] {
  return files
    .flatMap((file) => {
      const found = /^grid-(\d+)\.png$/.exec(file.name);
      return found ? [{ step: Number(found[1]), file }] : [];
    })
    .sort((a, b) => a.step - b.step);
}
