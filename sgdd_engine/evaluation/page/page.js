// A table that is wider than the window says so.
(() => {
  const tables = [...document.querySelectorAll(".scroll")];
  const tell = () => tables.forEach((part) => part.classList.toggle("wide", part.scrollWidth > part.clientWidth + 1));
  addEventListener("resize", tell);
  tell();
})();
// Without this the samples stand there all the same; with it they can be searched and sorted.
(() => {
  const list = document.getElementById("list");
  const all = [...list.children];
  const [words, group, order, count] = ["words", "group", "order", "count"].map((id) => document.getElementById(id));
  const texts = new Map(all.map((item) => [
    item, [...item.querySelectorAll("q")].map((q) => q.textContent).join("\n").toLowerCase(),
  ]));
  const score = (item, name) => Number(item.getAttribute("data-" + name.replaceAll("_", "-")));
  const update = () => {
    const wanted = words.value.trim().toLowerCase();
    const chosen = group.value;
    const [name, way] = order.value.split(" ");
    const sorted = name
      ? [...all].sort((a, b) => way * (score(a, name) - score(b, name)))
      : all;
    list.replaceChildren(...sorted);
    let shown = 0;
    for (const item of all) {
      item.hidden = (chosen && item.dataset.group !== chosen) || !texts.get(item).includes(wanted);
      shown += !item.hidden;
    }
    count.textContent = shown + " of " + all.length;
  };
  const controls = document.getElementById("controls");
  controls.hidden = false;
  controls.addEventListener("input", update);
  controls.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
