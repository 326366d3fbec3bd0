//! Runs that are disturbed from outside.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use super::{slow, start, undisturbed};
use crate::support::{Checkpoint, Cmd, Dir};

const TEMPORARY: &str = ".glm2llama-m.gguf.tmp";

#[test]
fn signals_leave_nothing() {
    let model = slow();
    for signal in ["-INT", "-TERM", "-HUP"] {
        let out = Dir::new();
        let run = start(model.path(), out.path(), &[]);
        run.signal(signal);
        let (code, stderr) = run.end();
        assert_eq!((code, stderr.as_str()), (Some(130), "glm2llama: interrupted, nothing was written\n"));
        assert_eq!(out.names(), [""; 0]);
    }
}

#[test]
fn what_a_killed_run_leaves_is_replaced_by_the_next() {
    let (model, out) = (slow(), Dir::new());
    fs::write(out.join("m.gguf"), "precious").unwrap();
    let run = start(model.path(), out.path(), &["--force"]);
    run.signal("-KILL");
    assert_eq!(run.end().0, None);
    assert_eq!(out.names(), [TEMPORARY, "m.gguf"]);
    assert_eq!(fs::read(out.join("m.gguf")).unwrap(), b"precious");

    let model = Checkpoint::tiny().folder();
    let next =
        Cmd::new("convert").arg(model.path()).args(&["--quiet", "--no-modelfile", "--force", "--output"]);
    next.arg(out.join("m.gguf")).succeed();
    assert_eq!(out.names(), ["m.gguf"]);
    assert!(fs::read(out.join("m.gguf")).unwrap() == undisturbed(model.path()));
}

#[test]
fn a_killed_exports_folder_is_replaced_too() {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let left = out.join(".glm2llama-hf.tmp");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("model.safetensors"), "half").unwrap();
    Cmd::new("export-hf").arg(model.path()).arg(out.join("hf")).args(&["--quiet"]).succeed();
    assert_eq!(out.names(), ["hf"]);
}

#[test]
fn a_second_run_to_the_same_output_is_refused_and_the_first_not_disturbed() {
    let (model, other, out) = (slow(), Checkpoint::tiny().folder(), Dir::new());
    let first = start(model.path(), out.path(), &[]);
    for force in [&[][..], &["--force"]] {
        let second = Cmd::new("convert").arg(other.path()).args(&["--quiet", "--no-modelfile"]).args(force);
        let refused = second.arg("--output").arg(out.join("m.gguf")).exit_with(2);
        assert!(refused.stderr.contains("m.gguf: another run is writing it"), "{}", refused.stderr);
    }
    assert_eq!(first.end(), (Some(0), String::new()));
    assert_eq!(out.names(), ["m.gguf"]);
    assert!(fs::read(out.join("m.gguf")).unwrap() == undisturbed(model.path()));
}

/// The name is taken while the run is at work.
#[test]
fn an_output_that_appears_meanwhile_is_kept() {
    let (model, out) = (slow(), Dir::new());
    let run = start(model.path(), out.path(), &[]);
    fs::write(out.join("m.gguf"), "precious").unwrap();
    let (code, stderr) = run.end();
    assert_eq!(code, Some(2));
    assert!(
        stderr.ends_with("m.gguf: exists already: choose another name, or give --force to replace it\n"),
        "{stderr}"
    );
    assert_eq!(out.names(), ["m.gguf"]);
    assert_eq!(fs::read(out.join("m.gguf")).unwrap(), b"precious");
}

/// One of two files cannot have its name: the other does not keep it, and what it replaced is there again.
#[test]
fn two_outputs_have_their_names_or_neither() {
    let (model, out) = (slow(), Dir::new());
    fs::write(out.join("m.gguf"), "precious").unwrap();
    let receipt = out.join("receipt.json");
    let run = start(model.path(), out.path(), &["--force", "--receipt", receipt.to_str().unwrap()]);
    fs::create_dir(&receipt).unwrap();
    let (code, stderr) = run.end();
    assert_eq!(code, Some(2), "{stderr}");
    assert!(
        stderr.ends_with("receipt.json: found no regular file, expected a file or nothing there\n"),
        "{stderr}"
    );
    assert_eq!(out.names(), ["m.gguf", "receipt.json"]);
    assert_eq!(fs::read(out.join("m.gguf")).unwrap(), b"precious");
}

#[test]
fn a_signal_ends_a_judgement() {
    let (model, out) = (slow(), Dir::new());
    let gguf = out.join("m.gguf");
    Cmd::new("convert")
        .arg(model.path())
        .args(&["-q", "-t", "F16", "--no-modelfile", "-o"])
        .arg(&gguf)
        .succeed();
    for signal in ["-INT", "-TERM"] {
        let child = Command::new(env!("CARGO_BIN_EXE_glm2llama"))
            .arg("verify")
            .args([model.path(), &gguf])
            .arg("--report")
            .arg(out.join("page.html"))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        while out.names().len() < 2 {
            std::thread::sleep(std::time::Duration::from_millis(2)); // until the page is begun
        }
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
        let output = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(
            (output.status.code(), stderr.as_str()),
            (Some(130), "glm2llama: interrupted, nothing was judged\n")
        );
        assert_eq!(output.stdout, b"");
        assert_eq!(out.names(), ["m.gguf"]);
    }
}

/// `convert` in a shell with these limits.
fn limited(limits: &str, options: &[&str]) -> (Option<i32>, String, Vec<String>) {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let output = Command::new("bash")
        .args(["-c", &format!("{limits}; exec \"$@\""), "bash", env!("CARGO_BIN_EXE_glm2llama"), "convert"])
        .arg(model.path())
        .args(["-q", "--threads", "1", "-t", "F16", "-o", "m.gguf"])
        .args(options)
        .current_dir(out.path())
        .output()
        .expect("bash");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"), out.names())
}

#[test]
fn limits_of_the_shell_are_named() {
    let (code, stderr, left) = limited("ulimit -f 500", &[]); // of 1 KiB
    assert_eq!((code, left), (Some(2), vec![]), "{stderr}");
    let (start, end) = (
        "glm2llama: m.gguf: found a limit on the size of a file, expected room for ",
        " MB: raise ulimit -f, or give --split-max-size (export-hf: --max-shard-size)\n",
    );
    assert!(stderr.starts_with(start) && stderr.ends_with(end), "{stderr}");

    let (code, stderr, left) = limited("ulimit -n 20", &["--split-max-size", "20K"]);
    assert_eq!((code, left), (Some(2), vec![]), "{stderr}");
    let end = "cannot write: Too many open files (os error 24): give a larger --split-max-size, or raise ulimit -n\n";
    assert!(stderr.ends_with(end), "{stderr}");
}

#[test]
fn an_output_folder_that_disappears() {
    let (model, out) = (slow(), Dir::new());
    let folder = out.join("folder");
    fs::create_dir(&folder).unwrap();
    let run = start(model.path(), &folder, &[]);
    fs::remove_dir_all(&folder).unwrap();
    let (code, stderr) = run.end();
    assert_eq!(code, Some(2));
    assert!(stderr.contains("m.gguf: cannot give the file its name: No such file or directory"), "{stderr}");
    assert_eq!(out.names(), [""; 0]);
}

#[test]
fn a_shard_that_shrinks_or_changes_meanwhile() {
    for shrinks in [true, false] {
        let (model, out) = (slow(), Dir::new());
        let run = start(model.path(), out.path(), &[]);
        let file = File::options().write(true).open(model.join("model.safetensors")).unwrap();
        if shrinks {
            file.set_len(1_000_000).unwrap();
        } else {
            (&file).write_all(b"\x01").unwrap(); // in the header: no weight differs
        }
        let (code, stderr) = run.end();
        assert_eq!(code, Some(2), "{stderr}");
        let reason = if shrinks { "it ends" } else { "changed while it was read" };
        assert!(stderr.contains("model.safetensors: ") && stderr.contains(reason), "{stderr}");
        assert_eq!(out.names(), [""; 0]);
    }
}

#[test]
fn an_adapter_that_changes_meanwhile() {
    let (model, adapter, out) = (slow(), Dir::new(), Dir::new());
    let name = |factor| format!("transformer.encoder.layers.3.self_attention.dense.lora_{factor}.weight");
    let header = serde_json::json!({
        name("A"): {"dtype": "F16", "shape": [1, 256], "data_offsets": [0, 512]},
        name("B"): {"dtype": "F16", "shape": [1024, 1], "data_offsets": [512, 2560]},
    });
    let header = header.to_string().into_bytes();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &[0; 2560]].concat();
    let file = adapter.join("adapter_model.safetensors");
    fs::write(&file, bytes).unwrap();
    fs::write(adapter.join("adapter_config.json"), r#"{"peft_type": "LORA", "r": 1}"#).unwrap();
    let run = start(model.path(), out.path(), &["--lora", adapter.path().to_str().unwrap()]);
    File::options().write(true).open(&file).unwrap().write_all(b"\x01").unwrap();
    let (code, stderr) = run.end();
    assert_eq!(code, Some(2), "{stderr}");
    let reason = "adapter_model.safetensors: found it was changed while it was read";
    assert!(stderr.contains(reason), "{stderr}");
    assert_eq!(out.names(), [""; 0]);
}

/// Mounts a small file system, where that is allowed.
fn mounted(folder: &Dir) -> bool {
    let mount = ["-t", "tmpfs", "-o", "size=96m", "tmpfs"];
    let mounted = Command::new("mount").args(mount).arg(folder.path()).status();
    let mounted = mounted.is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: may not mount a small file system");
    }
    mounted
}

/// The temporary would lie on another disk, and never get the name.
#[test]
fn a_mount_point_is_refused_before_the_work() {
    let (model, disk) = (slow(), Dir::new());
    if !mounted(&disk) {
        return;
    }
    let run = Command::new(env!("CARGO_BIN_EXE_glm2llama"))
        .args(["export-hf", "--force", "--quiet"])
        .args([model.path(), disk.path()])
        .output()
        .expect("the program starts");
    let _ = Command::new("umount").arg(disk.path()).status();
    let stderr = String::from_utf8(run.stderr).expect("UTF-8");
    assert_eq!(run.status.code(), Some(2), "{stderr}");
    let expected = "found a mount point, expected a name that can be replaced: choose one in it\n";
    assert!(stderr.ends_with(expected), "{stderr}");
}

/// `convert` finds it before the work, and `plan` says so.
#[test]
fn a_disk_with_too_little_room_is_told_of_in_the_usual_units() {
    let (model, disk) = (Checkpoint::tiny().folder(), Dir::new());
    if !mounted(&disk) {
        return;
    }
    fs::write(disk.join("other"), vec![1; 95 << 20]).expect("there is room");
    let run = |command: &str| {
        let run = Cmd::new(command).arg(model.path()).args(&["--type", "F32", "--no-modelfile", "--quiet"]);
        run.arg("--output").arg(disk.join("m.gguf"))
    };
    let refused = run("convert").run();
    let left = disk.names();
    // --quiet keeps warnings back.
    let plan = Cmd::new("plan").arg(model.path()).args(&["--type", "F32", "--output"]);
    let planned = plan.arg(disk.join("m.gguf")).run();
    let _ = Command::new("umount").arg(disk.path()).status();
    assert_eq!((refused.code, left), (Some(2), vec!["other".to_owned()]), "{}", refused.stderr);
    let reason = " MB of disk, 1.0 MB are free there: free some, or write elsewhere\n";
    assert!(
        refused.stderr.contains("m.gguf: needs ") && refused.stderr.ends_with(reason),
        "{}",
        refused.stderr
    );
    let warning = refused.stderr.replace("glm2llama: ", "warning: convert would refuse this: ");
    assert!(planned.stderr.ends_with(&warning), "{}", planned.stderr);
    assert_eq!(planned.code, Some(0));
}

/// The disk has room for the file, and not for the matrices that wait beside it until it is whole: found before hours of
/// work, told by `plan`, and nothing is left.
#[test]
fn a_disk_with_too_little_room_for_best_is_found_before_the_work() {
    let (model, disk) = (Checkpoint::tiny().folder(), Dir::new());
    if !mounted(&disk) {
        return;
    }
    let run = |command: &str| {
        let run = Cmd::new(command).arg(model.path()).args(&["--type", "Q8_0", "--no-modelfile"]);
        run.args(&["--quality", "best", "--calibration-tokens", "1100"])
            .arg("--output")
            .arg(disk.join("m.gguf"))
    };
    let json = run("plan").arg("--json").succeed().stdout;
    let needs = json.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let needed = needs.and_then(|needs| needs["data"]["disk_bytes"].as_u64()).expect("bytes");
    let fill = |left: u64| fs::write(disk.join("other"), vec![1; ((96 << 20) - left) as usize]);
    fill(needed * 3 / 4).expect("there is room");
    let (planned, refused) = (run("plan").run(), run("convert").arg("--quiet").run());
    let left = disk.names();
    fill(needed + (1 << 19)).expect("there is room");
    let made = run("convert").arg("--quiet").run();
    let _ = Command::new("umount").arg(disk.path()).status();
    assert!(planned.stderr.contains("convert would refuse this: "), "{}", planned.stderr);
    assert!(refused.stderr.contains("m.gguf: needs ") && refused.code == Some(2), "{}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    assert_eq!((left, made.code), (vec!["other".to_owned()], Some(0)), "{}", made.stderr);
}

/// The space that was reserved is given back and taken by another: a disk that is full in the middle.
#[test]
fn a_disk_that_fills_in_the_middle() {
    let (model, disk) = (slow(), Dir::new());
    if !mounted(&disk) {
        return;
    }
    let run = start(model.path(), disk.path(), &[]);
    File::options().write(true).open(disk.join(TEMPORARY)).unwrap().set_len(0).unwrap();
    let mut other = File::create(disk.join("other")).unwrap();
    while other.write_all(&[1; 4096]).is_ok() {}
    let (code, stderr) = run.end();
    drop(other);
    let left = disk.names();
    let _ = Command::new("umount").arg(disk.path()).status();
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("m.gguf: cannot write: No space left on device"), "{stderr}");
    assert_eq!(left, ["other"]);
}
