// Draws each figure from the JSON beside it, one after the other, so that the first is seen while the others come.
const dark = matchMedia("(prefers-color-scheme: dark)");
const touched = matchMedia("(pointer: coarse)").matches;
const config = {
  responsive: true,
  displaylogo: false,
  displayModeBar: touched ? false : "hover",
  modeBarButtons: [["toImage", "resetScale2d"]],
};

function draw(box) {
  const shade = (key, value) =>
    dark.matches && typeof value === "string" && Object.hasOwn(DARK, value) ? DARK[value] : value;
  const { data, layout } = JSON.parse(box.nextElementSibling.textContent, shade);
  if (touched) layout.dragmode = false; // a finger scrolls the page
  return Plotly.react(box, data, layout, config);
}

async function drawAll() {
  for (const box of document.querySelectorAll(".figure")) {
    await draw(box);
    await new Promise((next) => setTimeout(next));
  }
  document.body.dataset.drawn = dark.matches ? "dark" : "light";
}

let drawing = drawAll();
dark.addEventListener("change", () => (drawing = drawing.then(drawAll)));
