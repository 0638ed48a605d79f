// What only the browser can do: copy the summary and save it as a file, open and close the library's
// drawer and the panel of models, show a page over the others, tell the progress in the tab's title to
// someone who waits elsewhere, ask before a reading is lost by leaving the page, and say when the program
// has ended.
(() => {
  const title = "mlx_edgeinf";
  const gone =
    "The program has ended or was started anew: open the address that its terminal shows now. " +
    "What was read is in your library.";

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

  function models(open) {
    const button = document.querySelector(".chooser");
    document.body.classList.toggle("models-open", open);
    button.setAttribute("aria-expanded", open);
    if (!open && document.activeElement.closest("#models")) button.focus();
  }

  document.addEventListener("click", (event) => {
    const { target } = event;
    if (target.closest?.(".chooser")) models(!document.body.classList.contains("models-open"));
    const button = target.closest?.("[data-copy], [data-save], .drawer");
    if (button?.dataset.copy) copy(button);
    else if (button?.dataset.save) save(button);
    else if (button) drawer(!document.body.classList.contains("drawer-open"));
    else if (document.body.classList.contains("drawer-open")) {
      if (target.closest?.("[data-do=open]") || !target.closest?.("#library")) drawer(false);
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (document.body.classList.contains("drawer-open")) drawer(false);
    else if (document.body.classList.contains("models-open")) models(false);
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
  // What is shown anew is closed again by the browser: open it where it was open.
  let insight = false;
  document.addEventListener("click", ({ target }) => {
    const details = target.closest?.(".insight summary")?.parentElement;
    if (details) insight = !details.open;
  });
  new MutationObserver(() => {
    const details = document.querySelector(".insight");
    if (details && details.open !== insight) details.open = insight;
  }).observe(document, { childList: true, subtree: true });

  setInterval(() => {
    const progress = document.querySelector("[data-title]")?.dataset.title;
    const wanted = progress ? `${progress} · ${title}` : title;
    if (document.title !== wanted) document.title = wanted;
  }, 1000);

  async function look() {
    const there = await fetch("robots.txt", { cache: "no-store" }).then((answer) => answer.ok, () => false);
    const notice = document.querySelector(".gone");
    if (notice && notice.textContent !== (there ? "" : gone)) notice.textContent = there ? "" : gone;
    setTimeout(look, 5000);
  }

  setTimeout(look, 5000);

  addEventListener("beforeunload", (event) => {
    if (document.querySelector("[data-busy]") && !document.querySelector(".gone")?.textContent) event.preventDefault();
  });
})();
