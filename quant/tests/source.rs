//! What the source must not contain.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// A fused multiply-add rounds once where ggml's bytes need it twice.
#[test]
fn nothing_fuses_and_only_arch_is_unsafe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let has = |word: &str| text.contains(word);
        let name = path.strip_prefix(&root).unwrap();
        let fused = ["mul_add", "fmadd", "fmsub", "fnmadd", "vfma", "vmla", "vmls"]
            .into_iter()
            .find(|word| has(word));
        assert_eq!(fused, None, "{}", name.display());
        let allowed = name.starts_with("arch");
        assert!(allowed || !has("unsafe ") && !has("unsafe{"), "unsafe in {}", name.display());
        let blocks = text.matches("unsafe {").count();
        assert!(
            text.matches("// SAFETY: ").count() >= blocks,
            "an unsafe block without reason in {}",
            name.display()
        );
    }
}
