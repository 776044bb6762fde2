// Tables as the server writes them: CSV with a line of names, no line breaks within cells.

export interface Table {
  columns: string[];
  rows: Map<string, string>[];
}

/** A table's rows by column; a last line that is still being written is left out. */
export function table(text: string): Table {
  const lines = text.split(/\r?\n/);
  lines.pop(); // what follows the last line's end
  const [head, ...rest] = lines.filter((line) => line !== "").map(cells);
  const columns = head ?? [];
  const rows = rest
    .filter((row) => row.length === columns.length)
    .map((row) => new Map(columns.map((name, k) => [name, row[k] ?? ""])));
  return { columns, rows };
}

function cells(line: string): string[] {
  const found: string[] = [];
  for (const [, quoted, plain] of line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)) {
    found.push(quoted === undefined ? (plain ?? "") : quoted.replace(/""/g, '"'));
  }
  return found;
}
