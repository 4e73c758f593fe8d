// Before the first paint: the theme that was chosen, where one was; else the system's stands.
(() => {
  const chosen = localStorage.getItem("exllama.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
