// What the theme leaves to the pointer: the drawers of a narrow window and a way past the navigation.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const article = document.querySelector("article");
  article.tabIndex = -1;
  const skip = document.createElement("a");
  skip.className = "skip";
  skip.href = "#text";
  skip.textContent = "Skip to the text";
  skip.addEventListener("click", (e) => {
    e.preventDefault();
    article.focus();
    article.scrollIntoView();
  });
  document.body.prepend(skip);

  for (const [id, drawer] of [["__navigation", ".sidebar-drawer"], ["__toc", ".toc-drawer"]]) {
    const box = document.getElementById(id), panel = document.querySelector(drawer);
    const buttons = document.querySelectorAll(`label[for="${id}"]:not(.overlay)`);
    let opener = null;
    const told = () => buttons.forEach((b) => b.setAttribute("aria-expanded", String(box.checked)));
    const set = (open) => {
      box.checked = open;
      told();
      if (open) [...panel.querySelectorAll("a, input")].find((e) => e.getClientRects().length).focus();
      else if (opener) opener.focus();
    };
    for (const button of buttons) {
      button.tabIndex = 0;
      button.setAttribute("role", "button");
      button.addEventListener("keydown", (e) => {
        if (e.key !== "Enter" && e.key !== " ") return;
        e.preventDefault();
        opener = button;
        set(!box.checked);
      });
    }
    box.addEventListener("change", told);
    told();
    panel.addEventListener("click", (e) => {
      if (box.checked && e.target.closest("a")) {
        box.checked = false;
        told();
      }
    });
    document.addEventListener("keydown", (e) => {
      if (e.key === "Escape" && box.checked) set(false);
    });
  }
});
