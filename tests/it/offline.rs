//! The data directory of a target read without a daemon: nothing in it is opened for writing, a
//! living daemon is named, an interruption ends with its own code.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;
use offsite_tests::pairing::Pair;
use offsite_tests::{Program, Scene, eventually, require};

/// A target that was killed after a point of the agent `web` had come; and the volume of the point.
fn killed(scene: &Scene) -> (Program, PathBuf) {
    let Pair { target, target_daemon, source, source_daemon: _daemon } = Pair::paired(scene);
    let volume = scene.path().join("web.img");
    let mut bytes = vec![0; 12 << 20];
    SeededLuck::from_env_or(1).fill(&mut bytes[1 << 20..9 << 20]);
    fs::write(&volume, bytes).unwrap();
    source.json(&["protect", "web"]);
    source.json(&["replicate", "web", "--wait"]);
    let (code, message) = target.refused(&["verify", "--offline"], 1);
    let holder = format!("in use by process {} (offsite-target)", target_daemon.pid());
    assert!(code == "data_directory" && message.contains(&holder), "{message}");
    target_daemon.kill_9();
    (target, volume)
}

/// Everything below a directory: size, times and content of each name.
fn look(directory: &Path, seen: &mut BTreeMap<PathBuf, (u64, i64, i64, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        let content = if found.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if found.is_dir() {
            look(&path, seen);
        }
        seen.insert(path, (found.size(), found.mtime_nsec(), found.ctime_nsec(), content));
    }
}

/// A command of the program with its system calls written to a file.
fn traced(program: &Program, log: &Path, options: &[&str], arguments: &[&str]) -> Command {
    let plain = program.command(arguments);
    let mut command = Command::new("strace");
    command.args(["-f", "-qqq", "-y", "-s", "300", "-o"]).arg(log).args(options);
    command.arg(plain.get_program()).args(plain.get_args());
    command
}

/// Calls that change a file system, apart from opening.
const CHANGING: &str = "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,\
    symlink,symlinkat,truncate,ftruncate,fallocate,creat,pwrite64,pwritev,pwritev2,fsync,fdatasync,\
    chmod,fchmod,fchmodat,utimensat,setxattr";

#[test]
fn restore_and_verify_write_nothing_in_the_data_directory_after_a_kill() {
    ["strace", "unshare", "sha256sum"].into_iter().for_each(require);
    let scene = Scene::new();
    let (target, volume) = killed(&scene);
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    look(target.data(), &mut before);
    let (back, log) = (scene.path().join("back.img"), scene.path().join("calls"));
    let trace = format!("trace=open,openat,openat2,{CHANGING}");
    let restore = ["restore", "web", "root", "--to", back.to_str().unwrap(), "--offline"];
    for arguments in [&restore[..], &["verify", "--offline", "--json"]] {
        let output = traced(&target, &log, &["-e", &trace], arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let calls = fs::read_to_string(&log).unwrap();
        let data = target.data().to_str().unwrap();
        let of_data: Vec<_> = calls.lines().filter(|line| line.contains(data)).collect();
        // Segments, manifests, the catalogs: the trace does see what happens in there.
        assert!(of_data.len() > 8, "{calls}");
        for line in of_data {
            let is_reading = line.contains("open") && line.contains("O_RDONLY");
            assert!(is_reading && !line.contains("O_CREAT"), "{line}");
        }
    }
    // On a mount that refuses every write, of whomever.
    fs::remove_file(&back).unwrap();
    let data = target.data().to_str().unwrap();
    let mount = format!("mount --bind {data} {data} && mount -o remount,bind,ro {data}");
    let plain = target.command(&restore);
    let mut command = Command::new("unshare");
    command.args(["-r", "-m", "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")]);
    let mounted = command.arg(plain.get_program()).args(plain.get_args()).output().unwrap();
    assert!(mounted.status.success(), "{mounted:?}");
    look(target.data(), &mut after);
    assert!(before == after, "the data directory was changed");
    let sha256 = |path| {
        let output = Command::new("sha256sum").arg(path).output().unwrap();
        String::from_utf8_lossy(&output.stdout)[..64].to_owned()
    };
    assert_eq!(sha256(&back), sha256(&volume));
    // And the daemon goes on with what the reader left alone.
    let daemon = target.serve();
    assert!(daemon.stop().success());
}

#[test]
fn verify_names_damage_and_is_interrupted_with_130() {
    let scene = Scene::new();
    let (target, _) = killed(&scene);
    let sound = target.json(&["verify", "--offline"]);
    assert_eq!(sound["damaged"], 0, "{sound}");
    assert!(sound["records"].as_u64().unwrap() > 500, "{sound}");
    // Every read takes a while, so that the end comes before the last of them.
    let log = scene.path().join("calls");
    let slow = ["-e", "trace=pread64,rt_sigaction", "-e", "inject=pread64:delay_enter=50000"];
    let mut verify = traced(&target, &log, &slow, &["verify", "--offline"]).spawn().unwrap();
    eventually("the segments are read, and signals are heard", || {
        let calls = fs::read_to_string(&log).ok()?;
        let is_reading = calls.contains("/segments/") && calls.contains("rt_sigaction(SIGTERM");
        is_reading.then_some(())
    });
    let calls = fs::read_to_string(&log).unwrap();
    let pid = calls.split_ascii_whitespace().next().unwrap();
    assert!(Command::new("kill").args(["-TERM", pid]).status().unwrap().success());
    assert_eq!(verify.wait().unwrap().code(), Some(130));

    let segments = target.data().join("store/segments");
    let segment = fs::read_dir(&segments).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[300_000] ^= 0x10;
    fs::write(&segment, bytes).unwrap();
    let hurt = target.run(&["verify", "--offline", "--json"]).expect_code(6).json();
    assert_eq!(hurt["damaged"], 1, "{hurt}");
    assert_eq!(hurt["points_affected"].as_array().unwrap().len(), 1, "{hurt}");
}
