"""The frame of every report: its head, its style and its little script."""

# Nothing may be loaded: the page is complete, and a policy in its head says so to the browser.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{{title}}</title>
<style>
:root { --page: #fff; --ink: #1a2332; --soft: #586375; --line: #dde3ea; --card: #f5f7f9;
  --c1: #0072b2; --c2: #d55e00; --c3: #00795a; --warn: #fff5dc; --warn-ink: #6b4200; --warn-line: #e0a526;
  --k0: #e69f00; --k1: #56b4e9; --k2: #f0e442; --k3: #cc79a7; --k4: #009e73; --k5: #d55e00;
  --k6: #0072b2; color-scheme: light dark; }
@media screen and (prefers-color-scheme: dark) { :root { --page: #12171e; --ink: #e4e9ef;
  --soft: #9aa7b6; --line: #2c3642; --card: #1a212a; --c1: #56b4e9; --c2: #e69f00; --c3: #3fc79f;
  --warn: #33270a; --warn-ink: #f5d98f; --warn-line: #b98a1d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 68rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue",
  Arial, sans-serif; font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; }
h2 { margin: 2.75rem 0 .75rem; padding-top: 1.25rem; border-top: 1px solid var(--line);
  font-size: 1.3rem; }
h3 { margin: 0; font-size: 1rem; }
p { margin: .5rem 0; }
.brand, .note, small, dt, figcaption, footer { color: var(--soft); }
.brand { margin: 0 0 .25rem; font-size: .8rem; letter-spacing: .06em; text-transform: uppercase; }
.lead { font-size: 1.1rem; }
.note, figcaption, footer { font-size: .875rem; max-width: 52rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
  gap: .75rem 1.5rem; margin: 1rem 0 0; }
.half { grid-column: span 2; }
.wide { grid-column: 1 / -1; }
dt { font-size: .8rem; }
dd { margin: 0; font-weight: 500; overflow-wrap: anywhere; }
.warning { margin: 1.5rem 0 0; padding: .75rem 1rem; border-left: 4px solid var(--warn-line);
  border-radius: 4px; background: var(--warn); color: var(--warn-ink); }
.warning ul { margin: 0; padding-left: 1.1rem; }
.warning + .cards { margin-top: 1rem; }
.warning li + li { margin-top: .35rem; }
.cards, .grid { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)); }
.grid { gap: 1.5rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.card { padding: 1rem; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
.card p { margin: .25rem 0 0; }
.big { font-size: 2.4rem; font-weight: 650; line-height: 1.15; }
figure { margin: 0; min-width: 0; }
.curve { max-width: 36rem; }
.curve figcaption { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin-bottom: .4rem; }
.curve figcaption b { color: var(--ink); }
.keys { display: flex; flex-wrap: wrap; gap: 0 1rem; }
.key { display: inline-block; width: 1.25rem; margin-right: .4rem; vertical-align: middle;
  border-top: 3px solid var(--c1); }
.key.c2 { border-color: var(--c2); }
.key.c3 { border-color: var(--c3); }
.key.faint { opacity: .35; border-top-width: 2px; }
.key.dots { width: .6rem; height: .6rem; border: 0; border-radius: 50%; background: var(--c1); }
.key.dots.c2 { background: var(--c2); }
.key.dots.c3 { background: var(--c3); }
.chart, .interval { display: block; width: 100%; height: auto; overflow: visible; }
.interval { max-width: 16rem; margin: .4rem 0; }
.chart text, .interval text { fill: var(--soft); font-size: 12px; }
.chart .name { fill: var(--ink); font-size: 13px; font-weight: 600; }
.chart .grid { stroke: var(--line); }
.interval .grid { stroke: var(--soft); opacity: .6; }
polyline { fill: none; stroke: var(--c1); stroke-width: 1; stroke-linejoin: round; }
polyline.faint { opacity: .3; }
polyline.bold { stroke-width: 2.2; }
polyline.dots { stroke-width: 1.5; }
polyline.c2 { stroke: var(--c2); }
polyline.c3 { stroke: var(--c3); }
circle.c1, .range, .median { fill: var(--c1); }
circle.c2 { fill: var(--c2); }
circle.c3 { fill: var(--c3); }
.range { opacity: .35; }
.box { fill: var(--c1); opacity: .16; }
.case-dot { fill: var(--ink); fill-opacity: .55; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
.tall { max-height: 32rem; overflow-y: auto; margin-top: 1rem; }
table { border-collapse: collapse; font-size: .9rem; }
.scroll table { width: 100%; }
th, td { padding: .45rem .75rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
th { font-weight: 600; }
th[scope=row], .scores th:first-child, td.name, .sortable th.name { text-align: left; }
thead th { position: sticky; top: 0; background: var(--card); }
td small { display: block; line-height: 1.4; }
em { font-style: normal; color: var(--c2); font-weight: 600; }
th button { padding: 0; border: 0; background: none; color: inherit; font: inherit;
  cursor: pointer; }
th[aria-sort] { color: var(--c1); }
th[aria-sort=ascending] button::after { content: " ▲"; font-size: .7em; }
th[aria-sort=descending] button::after { content: " ▼"; font-size: .7em; }
.case { margin-top: 2rem; }
.role { margin-right: .25rem; padding: .1rem .55rem; border-radius: 1rem; background: var(--c1);
  color: var(--page); font-size: .8rem; }
.role.worst, .role.missed, .role.alarm { background: var(--c2); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; position: sticky; top: 0; z-index: 1;
  padding: .4rem 0; background: var(--page); font-size: .875rem; }
.legend label { cursor: pointer; }
.swatch { display: inline-block; width: .9rem; height: .9rem; margin-right: .4rem;
  border: 1px solid var(--soft); border-radius: 3px; vertical-align: -2px; }
.stroke { display: inline-block; width: 1.6rem; margin: 0 .4rem 0 .2rem; vertical-align: middle;
  border-top: 2.5px solid var(--ink); }
.stroke.k0 { border-color: var(--k0); background: none; }
.stroke.k1 { border-color: var(--k1); background: none; }
.prediction-key { border-top-style: dashed; }
.planes { display: grid; gap: .75rem; align-items: start; margin-top: .5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(16rem, 100%), 1fr)); }
.planes figure:only-child { max-width: 40rem; }
.planes:has(> figure:nth-child(4):last-child) {
  grid-template-columns: repeat(auto-fit, minmax(min(12rem, 100%), 1fr)); }
.view { position: relative; background: #000; border-radius: 4px; overflow: hidden; }
.view svg { display: block; width: 100%; height: auto; max-height: 34rem; }
.view svg[data-other] { cursor: zoom-in; }
.view b { position: absolute; color: #fff; font-size: .8rem; line-height: 1; pointer-events: none;
  text-shadow: 0 0 3px #000, 0 0 3px #000, 0 0 2px #000; }
.left, .right { top: calc(50% - .4rem); }
.left { left: .4rem; }
.right { right: .4rem; }
.top, .bottom { left: calc(50% - .3rem); }
.top { top: .4rem; }
.bottom { bottom: .4rem; }
path.reference, path.prediction { fill: none; stroke-width: 2; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }
path.prediction { stroke-dasharray: 5 4; }
path.fine { stroke-width: var(--fine, 1); }
.detail { --fine: 2; }
.k0 { stroke: var(--k0); background: var(--k0); }
.k1 { stroke: var(--k1); background: var(--k1); }
.k2 { stroke: var(--k2); background: var(--k2); }
.k3 { stroke: var(--k3); background: var(--k3); }
.k4 { stroke: var(--k4); background: var(--k4); }
.k5 { stroke: var(--k5); background: var(--k5); }
.k6 { stroke: var(--k6); background: var(--k6); }
body:has(#show-reference:not(:checked)) .reference,
body:has(#show-prediction:not(:checked)) .prediction { display: none; }
.ramp { display: inline-block; width: 8rem; height: .7rem; margin: 0 .3rem; border-radius: 2px;
  vertical-align: -1px; background: linear-gradient(to right, #000004, #420a68, #932667, #dd513a,
  #fca50a, #fcffa4); }
details { margin-top: .5rem; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; padding: 1rem; border-radius: 8px; background: var(--card);
  font-size: .8rem; line-height: 1.4; }
footer { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media (max-width: 40rem) { body { padding: 1.25rem 1rem 2rem; } h1 { font-size: 1.6rem; }
  .chart text { font-size: 14px; } .chart .name { font-size: 15px; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; }
  .scroll, .tall { max-height: none; overflow: visible; } table { font-size: 8.5pt; }
  th, td { padding: .2rem .3rem; } thead th { white-space: normal; }
  .legend, thead th { position: static; }
  .card, .case, .curve, figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .planes { grid-template-columns: repeat(3, 1fr); } .grid { grid-template-columns: 1fr 1fr; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
</style>
</head>
<body>
{{body}}
<script>
for (const button of document.querySelectorAll(".sortable th button")) button.onclick = () => {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const down = head.getAttribute("aria-sort") === "ascending", at = head.cellIndex;
  const named = head.classList.contains("name"), value = (row) =>
    named ? row.cells[at].textContent : row.cells[at].dataset.v && Number(row.cells[at].dataset.v);
  const rows = [...body.rows].sort((one, two) => {
    const a = value(one), b = value(two);
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return (named ? a.localeCompare(b, undefined, {numeric: true}) : a - b) * (down ? -1 : 1);
  });
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
};
for (const view of document.querySelectorAll("svg[data-other]")) view.onclick = () => {
  const shown = view.getAttribute("viewBox");
  view.setAttribute("viewBox", view.dataset.other);
  view.dataset.other = shown;
};
</script>
</body>
</html>
"""
