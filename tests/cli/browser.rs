//! Reports in a real browser, if one is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tool::{Tool, fashion, fixture, images, mnist};

/// Names of headless browsers' programs.
const BROWSERS: [&str; 5] =
    ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome"];

/// Size of the window.
const WINDOW: (u32, u32) = (1000, 1400);

/// A script that measures the laid-out page, and writes its findings into the page.
const LOOK: &str = "<script>addEventListener('load', () => {
  const boxes = [...document.querySelectorAll('.layer')].map(e => e.getBoundingClientRect());
  const page = document.documentElement;
  const seen = {
    overflow: page.scrollWidth > page.clientWidth,
    boxes: boxes.length,
    visible: boxes.filter(b => b.width > 2 && b.height > 2 && b.left >= 0 && b.right <= page.clientWidth).length,
    rows: new Set(boxes.map(b => Math.round(b.top))).size,
    ink: getComputedStyle(document.body).color,
    bars: [...document.querySelectorAll('.bar')].filter(e => e.getBoundingClientRect().width > 2).length,
  };
  document.body.setAttribute('data-seen', JSON.stringify(seen));
});</script>";

fn browser() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let all = BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = all.into_iter().find(|path| path.is_file());
    if found.is_none() {
        println!("no browser was found ({}), so pages were not opened", BROWSERS.join(", "));
    }
    found
}

/// The output of a browser that opens a page.
fn opened(browser: &Path, page: &Path, more: &[&str]) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={},{}", WINDOW.0, WINDOW.1))
        .args(more)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn looked_at(browser: &Path, page: &Path, more: &[&str]) -> serde_json::Value {
    let text = fs::read_to_string(page).unwrap();
    let copy = page.with_extension("looked.html");
    fs::write(&copy, text.replace("</body>", &format!("{LOOK}</body>"))).unwrap();
    let dom = opened(browser, &copy, &[more, &["--dump-dom"]].concat());
    let seen = dom.split("data-seen=\"").nth(1).and_then(|rest| rest.split('"').next());
    let seen = seen.unwrap_or_else(|| panic!("the page was not laid out: {dom:.500}"));
    serde_json::from_str(&seen.replace("&quot;", "\"")).unwrap()
}

/// Number of colours in a screenshot.
fn colours(browser: &Path, page: &Path) -> usize {
    let shot = page.with_extension("png");
    opened(browser, page, &[&format!("--screenshot={}", shot.display())]);
    let picture = image::open(&shot).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), WINDOW);
    picture.pixels().collect::<std::collections::HashSet<_>>().len()
}

/// Number of paper pages of a printed page.
fn printed(browser: &Path, page: &Path) -> usize {
    let pdf = page.with_extension("pdf");
    opened(
        browser,
        page,
        &["--no-pdf-header-footer", &format!("--print-to-pdf={}", pdf.display())],
    );
    let bytes = fs::read(&pdf).unwrap();
    assert!(bytes.starts_with(b"%PDF"));
    let text = String::from_utf8_lossy(&bytes);
    text.matches("/Type /Page\n").count()
}

#[test]
fn reports_are_laid_out_in_a_browser() {
    let Some(browser) = browser() else { return };
    let tool = Tool::new();
    let net = |data: &str| fixture(&format!("models/zoo/resnet_{data}.onnx"));
    let (a, b) = (net("mnist"), net("fashion"));
    let args = ["merge", &a, &b, "-o", "joint.onnx", "--own-weights", "*shortcut*", "--share", "1"];
    let few = ["--samples", "16", "--runtime", "tract", "--no-verify", "--report", "r.html"];
    tool.run(0, &[&args[..], &few].concat());
    let page = tool.path("r.html");
    let seen = looked_at(&browser, &page, &[]);
    assert_eq!(seen["overflow"], false, "{seen}");
    assert!(seen["boxes"].as_u64() > Some(5) && seen["boxes"] == seen["visible"], "{seen}");
    assert!(seen["rows"].as_u64() < seen["boxes"].as_u64(), "{seen}");
    assert!(seen["bars"].as_u64() > Some(3), "{seen}");
    let dark = looked_at(
        &browser,
        &page,
        &["--force-dark-mode", "--blink-settings=preferredColorScheme=0"],
    );
    assert_ne!(dark["ink"], seen["ink"], "{dark}");
    assert!(colours(&browser, &page) > 20);
    let pages = printed(&browser, &page);
    assert!((1..=6).contains(&pages), "{pages} pages");
}

#[test]
fn a_curve_is_laid_out_in_a_browser() {
    let Some(browser) = browser() else { return };
    let (tool, a, b, data) = (Tool::new(), mnist(), fashion(), images());
    let args = ["frontier", &a, &b, "--data", &data, "--scale", "1/255", "--report", "c.html"];
    tool.run(0, &[&args[..], &["--samples", "100", "--runtime", "tract"]].concat());
    let seen = looked_at(&browser, &tool.path("c.html"), &[]);
    assert_eq!(seen["overflow"], false, "{seen}");
    assert!(seen["boxes"].as_u64() > Some(2) && seen["boxes"] == seen["visible"], "{seen}");
    assert!(colours(&browser, &tool.path("c.html")) > 10);
}
