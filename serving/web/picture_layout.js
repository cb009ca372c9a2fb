// Where everything of the model's picture stands. Pure: numbers in, numbers out.

const GAP = 7;
const COLUMN_GAP = 12;
const THIN = 15;
const ADAPTER_SHARE = 0.56;
const BRIDGE = 4;

export const LABELS = { wide: 182, narrow: 92 };

/** Width of a column for `columns` of them in `room` pixels. */
export function columnWidth(columns, room) {
  const most = columns <= 1 ? 520 : columns <= 2 ? 320 : 200;
  return Math.max(74, Math.min(most, Math.floor(room / Math.max(1, columns))));
}

/** Rows from the top down with their height, which tells their size; the image comes in at the bottom. */
export function rowPlaces(rows) {
  const largest = Math.max(1, ...rows.filter((row) => row.kind === "block").map((row) => row.parameters ?? 0));
  const tallest = Math.min(38, Math.max(21, 620 / Math.max(1, rows.length)));
  const places = new Array(rows.length);
  let y = 6;
  for (let index = rows.length - 1; index >= 0; index -= 1) {
    const row = rows[index];
    const size = Math.max(row.parameters ?? 0, ...row.boxes.map((box) => box.parameters));
    const share = Math.min(1, size / largest);
    const height = row.kind === "adapter" ? THIN : THIN + (tallest - THIN) * Math.sqrt(share);
    places[index] = { top: y, height, middle: y + height / 2 };
    y += height + GAP;
  }
  return { places, height: y };
}

/** The whole picture: `boxes` with their rectangles and bridges, `routes` with their points. */
export function layout(model, room) {
  const width = columnWidth(model.columns.length, room);
  const { places, height } = rowPlaces(model.rows);
  const left = (column) => column * width;
  const right = (column) => (column + 1) * width - COLUMN_GAP;
  const centre = (column) => left(column) + (width - COLUMN_GAP) / 2;
  const boxes = model.rows.flatMap((row, index) => row.boxes.map((box) => shaped(box, row, index)));

  function shaped(box, row, index) {
    const { top, height: tall, middle } = places[index];
    const inset = row.kind === "adapter" ? ((width - COLUMN_GAP) * (1 - ADAPTER_SHARE)) / 2 : 0;
    const parts = box.runs.map(([first, last]) => ({
      x: left(first) + inset, y: top, width: right(last) - left(first) - 2 * inset, height: tall,
    }));
    const bridges = parts.slice(1).map((part, at) => {
      const from = parts[at].x + parts[at].width;
      return { x: from, y: middle - BRIDGE / 2, width: part.x - from, height: BRIDGE };
    });
    return { ...box, row: index, slot: row.slot, name: row.name, parts, bridges };
  }

  const routes = model.columns.map((column, place) => ({
    ...column,
    x: centre(place),
    ys: column.rows.map((row) => places[row].middle),
  }));
  return { width, height, total: Math.max(1, model.columns.length) * width - COLUMN_GAP, places, boxes, routes, columnGap: COLUMN_GAP };
}

/** The task whose route is nearest to `x`, when it is near enough to be meant. */
export function nearRoute(plan, x, within = 8) {
  const found = plan.routes.find((route) => Math.abs(route.x - x) <= within);
  return found?.task ?? null;
}

/** The columns that a box stands in. */
export const columnsOf = (box) => box.runs.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, at) => first + at));

/** The box that an arrow key leads to from `box`, keeping to `column`; null at the edge. */
export function step(plan, box, column, key) {
  const at = (row, where) => plan.boxes.find((one) => one.row === row && columnsOf(one).includes(where));
  if (key === "ArrowUp" || key === "ArrowDown") {
    const by = key === "ArrowUp" ? 1 : -1;
    for (let row = box.row + by; row >= 0 && row < plan.places.length; row += by) {
      const found = at(row, column) ?? (plan.routes.length ? null : plan.boxes.find((one) => one.row === row));
      if (found) return { box: found, column };
    }
    return null;
  }
  const by = key === "ArrowRight" ? 1 : -1;
  for (let where = column + by; where >= 0 && where < Math.max(1, plan.routes.length); where += by) {
    const found = at(box.row, where);
    if (found && found !== box) return { box: found, column: where };
  }
  return null;
}
