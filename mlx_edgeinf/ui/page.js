// What only the browser can do: copy the summary and save it as a file, open and close the library's
// drawer, show a page over the others, tell the progress in the tab's title to someone who waits elsewhere, and ask before a
// reading is lost by leaving the page.
(() => {
  const title = "mlx_edgeinf";

  async function copy(button) {
    const label = button.textContent;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).innerText);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 2000);
  }

  function save(button) {
    const text = document.getElementById(button.dataset.save).textContent;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/markdown" }));
    link.download = button.dataset.name;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function drawer(open) {
    const button = document.querySelector(".drawer");
    document.body.classList.toggle("drawer-open", open);
    button.setAttribute("aria-expanded", open);
    if (open) document.querySelector("#search textarea, #search input").focus();
    else if (document.activeElement.closest("#library")) button.focus();
  }

  document.addEventListener("click", (event) => {
    const { target } = event;
    const button = target.closest?.("[data-copy], [data-save], .drawer");
    if (button?.dataset.copy) copy(button);
    else if (button?.dataset.save) save(button);
    else if (button) drawer(!document.body.classList.contains("drawer-open"));
    else if (document.body.classList.contains("drawer-open")) {
      if (target.closest?.("[data-do=open]") || !target.closest?.("#library")) drawer(false);
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.body.classList.contains("drawer-open")) drawer(false);
  });

  // A page that a link leads to arrives as a dialog. However it is closed, the session is told.
  const leaves = new MutationObserver(() => {
    const leaf = document.querySelector("dialog.leaf:not([open])");
    if (!leaf || leaf.dataset.left) return;
    leaf.showModal();
    leaf.querySelector("mark, .mark")?.scrollIntoView({ block: "center", inline: "center" });
    leaf.addEventListener("click", (event) => event.target === leaf && leaf.close());
    leaf.addEventListener("close", () => {
      leaf.dataset.left = true;
      leaf.querySelector("[data-do=leave]").click();
      document.querySelector(`.page[data-link="${leaf.dataset.link}"]`)?.focus();
    });
  });
  leaves.observe(document, { childList: true, subtree: true });

  setInterval(() => {
    const progress = document.querySelector("[data-title]")?.dataset.title;
    const wanted = progress ? `${progress} · ${title}` : title;
    if (document.title !== wanted) document.title = wanted;
  }, 1000);

  addEventListener("beforeunload", (event) => {
    if (document.querySelector("[data-busy]")) event.preventDefault();
  });
})();
