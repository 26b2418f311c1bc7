"use strict";
// Light and dark, and the charts, which follow.
const root = document.documentElement;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function theme() {
  return root.dataset.theme || (prefersDark.matches ? "dark" : "light");
}

function drawn() {
  return [...document.querySelectorAll(".plot")].filter((plot) => plot.data);
}

// A chart says in its meta which colours its first traces take on which page.
function themed(layout, name) {
  const colorway = layout.meta && layout.meta.colorways && layout.meta.colorways[name];
  return { template: TEMPLATES[name], ...(colorway && { colorway }) };
}

function paint(plot, name, more = {}) {
  Plotly.update(plot, { "textfont.color": TEMPLATES[name].layout.font.color }, { ...themed(plot.layout, name), ...more });
}

function follow(name = theme()) {
  const button = document.getElementById("theme");
  button.textContent = name === "dark" ? "☀ Light" : "☾ Dark";
  for (const plot of drawn()) paint(plot, name);
}

document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = theme() === "dark" ? "light" : "dark";
  follow();
});
prefersDark.addEventListener("change", () => follow());

for (const plot of document.querySelectorAll(".plot")) {
  const figure = JSON.parse(plot.nextElementSibling.textContent);
  Plotly.newPlot(plot, figure.data, { ...figure.layout, ...themed(figure.layout, theme()) }, {
    responsive: true,
    displaylogo: false,
    displayModeBar: "hover",
    modeBarButtons: [["toImage", "resetScale2d"]],
  });
}
follow();

// Paper is white and narrower than the screen.
addEventListener("beforeprint", () => {
  for (const plot of drawn()) {
    const width = plot.closest(".columns") ? 330 : 690;
    paint(plot, "light", { width, autosize: false });
  }
});
addEventListener("afterprint", () => {
  for (const plot of drawn()) paint(plot, theme(), { width: null, autosize: true });
});
