//! The page of `verify --report` in a real browser: nothing is wider than the window, in light and in dark, and its text
//! can be read.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::command::convert;
use crate::support::damage::Damaged;
use crate::support::{Cmd, Dir, testdata};
use serde_json::Value;

/// Put into a copy of the page: what the browser made of it goes to the page around it.
const MEASURE: &str = r#"<script>
addEventListener("load", () => {
  const root = document.documentElement;
  // What stands in a box that scrolls by itself may be wider.
  const scrolls = (e) => {
    for (let p = e.parentElement; p; p = p.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(p).overflowX)) return true;
    return false;
  };
  const wide = [...document.body.querySelectorAll("*")]
    .filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1 && !scrolls(e))
    .map((e) => e.tagName + "." + e.getAttribute("class"));
  const smallest = Math.min(...[...document.querySelectorAll("svg text")].map((e) => e.getBoundingClientRect().height));
  const style = getComputedStyle(document.body);
  parent.postMessage({
    width: root.clientWidth, scroll: root.scrollWidth, wide: wide.slice(0, 5), smallest,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    paper: style.backgroundColor, ink: style.color,
  }, "*");
});
</script>"#;

/// A browser's path. Where there is none, says so; on the machine that tests for everyone that is an error.
fn browser() -> Option<PathBuf> {
    let named = env::var_os("CHROMIUM").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let known = ["chromium", "chromium-browser", "google-chrome"];
    let mut files = env::split_paths(&path).flat_map(|folder| known.map(|name| folder.join(name)));
    let found = named.or_else(|| files.find(|file| file.is_file()));
    if found.is_none() {
        assert!(env::var_os("CI").is_none_or(|ci| ci.is_empty()), "no chromium on PATH");
        eprintln!(
            "skipped: no chromium on PATH (the Debian package is called chromium), and no CHROMIUM=FILE"
        );
    }
    found
}

/// The report on a good file and one that is damaged, both of names that do not fit.
fn report(folder: &Dir) -> String {
    let tiny = testdata("models/tiny-chatglm3");
    let good = folder.join("a-model-with-a-name-that-is-longer-than-any-window-is-wide-Q4_K_M.gguf");
    let bad = folder.join("another-model-with-a-name-that-is-longer-than-any-window-is-wide-Q8_0.gguf");
    convert(&tiny, "Q4_K_M", &good, &[]);
    convert(&tiny, "Q8_0", &bad, &[]);
    let mut file = Damaged::read(&bad);
    file.change("blk.1.attn_v.weight", 0..64, |byte| !byte);
    file.write();
    let page = folder.join("page.html");
    let run = Cmd::new("verify").arg(&tiny).arg(&good).arg(&bad).args(&["--tokens", "48", "--report"]);
    run.arg(&page).exit_with(1);
    fs::read_to_string(page).expect("a page")
}

/// What the browser measures of the page in a window of so many pixels.
fn measured(browser: &Path, folder: &Dir, page: &str, width: usize, dark: bool) -> Value {
    // A frame, for a browser's own window has a smallest width.
    fs::write(folder.join("inner.html"), page.replacen("</main>", &format!("</main>{MEASURE}"), 1))
        .expect("written");
    let outer = format!(
        "<!doctype html><title>waiting</title><pre></pre><iframe src=\"inner.html\" width=\"{width}\" height=\"900\" \
         style=\"border:0\"></iframe><script>addEventListener('message', (e) => {{ \
         document.querySelector('pre').textContent = JSON.stringify(e.data); }});</script>"
    );
    fs::write(folder.join("outer.html"), outer).expect("written");
    let scheme = if dark { "0" } else { "1" };
    let output = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ])
        .args(["--allow-file-access-from-files", "--window-size=1400,1000", "--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg("--dump-dom")
        .arg(format!("file://{}", folder.join("outer.html").display()))
        .output()
        .expect("the browser starts");
    let dom = String::from_utf8_lossy(&output.stdout);
    let found = dom.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>"));
    let text = found.map(|(text, _)| text.replace("&quot;", "\"")).unwrap_or_default();
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}\n{dom}\n{errors}"))
}

/// Relative luminance, as the rules for readable pages define it.
fn luminance(colour: &str) -> f64 {
    let numbers = colour.trim_start_matches("rgb(").trim_end_matches(')').split(',');
    let channels: Vec<f64> = numbers.map(|n| n.trim().parse::<f64>().expect("a colour") / 255.0).collect();
    let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
    0.2126 * linear(channels[0]) + 0.7152 * linear(channels[1]) + 0.0722 * linear(channels[2])
}

#[test]
fn the_page_fits_a_phone_and_a_screen_in_light_and_dark() {
    let Some(browser) = browser() else { return };
    let folder = Dir::new();
    let page = report(&folder);
    for (width, dark) in [(400, false), (400, true), (1200, false), (1200, true)] {
        let found = measured(&browser, &folder, &page, width, dark);
        assert_eq!(found["width"], width, "{found}");
        assert!(found["scroll"].as_u64().expect("a width") <= width as u64, "{width}: {found}");
        assert_eq!(found["wide"], serde_json::json!([]), "{width}: {found}");
        assert!(found["smallest"].as_f64().expect("a height") > 9.0, "letters of a picture: {found}");
        assert_eq!(found["dark"], dark, "{found}");
        let [paper, ink] = ["paper", "ink"].map(|name| luminance(found[name].as_str().expect("a colour")));
        assert_eq!(paper < ink, dark, "{found}");
        let contrast = (paper.max(ink) + 0.05) / (paper.min(ink) + 0.05);
        assert!(contrast > 7.0, "{contrast}: {found}");
    }
    // The measure can fail.
    let wide = page.replacen("<h1", "<p style=\"width:900px\">wide</p><h1", 1);
    let found = measured(&browser, &folder, &wide, 400, false);
    assert!(found["scroll"].as_u64() > Some(400) && found["wide"][0] == "P.null", "{found}");
}
