// The theme that the reader's system asks for, until the reader chooses.
const root = document.documentElement;
const setTheme = (name) => { root.dataset.theme = name; };
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
document.querySelector("#theme").addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark"));
