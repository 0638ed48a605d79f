// Three things that only the browser can do: copy the summary, tell the progress in the tab's
// title to someone who waits elsewhere, and ask before a reading is lost by leaving the page.
(() => {
  const title = "mlx_edgeinf";

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const label = button.textContent;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).innerText);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 2000);
  });

  setInterval(() => {
    const progress = document.querySelector("[data-title]")?.dataset.title;
    const wanted = progress ? `${progress} · ${title}` : title;
    if (document.title !== wanted) document.title = wanted;
  }, 1000);

  addEventListener("beforeunload", (event) => {
    if (document.querySelector("[data-busy]")) event.preventDefault();
  });
})();
