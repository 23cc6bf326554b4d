//! Agents: what is accepted, and the words for what is not.

use std::path::Path;
use std::sync::Arc;

use offsite_model::OpenMode;
use offsite_proto::admin::source::{AddAgent, VolumeSpec};
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::MemoryCatalog;
use offsite_testkit::disk::Disk;
use offsite_testkit::{SeededLuck, SimClock};

use crate::agents::{add, find, list, view};
use crate::error::Trouble;
use crate::memory::Memory;

struct Place {
    disk: Disk,
    memory: Memory,
}

impl Place {
    fn new() -> Self {
        let disk = Disk::new(1);
        for (path, bytes) in [("/root.img", 4_096), ("/data.img", 8_192), ("/empty.img", 0)] {
            let file = disk.files().open(Path::new(path), OpenMode::CreateNew).unwrap();
            file.set_bytes(bytes).unwrap();
        }
        disk.files().create_dir(Path::new("/directory")).unwrap();
        Self { disk, memory: Memory::new(Arc::new(MemoryCatalog::new())) }
    }

    fn add(&self, name: &str, volumes: &[(&str, &str)]) -> Result<u64, Trouble> {
        let volumes = volumes.iter().map(|(label, path)| VolumeSpec {
            label: (*label).to_owned(),
            path: (*path).to_owned(),
        });
        let order = AddAgent { name: name.to_owned(), volumes: volumes.collect(), agent_id: None };
        let (clock, luck) = (SimClock::new(), SeededLuck::new(1));
        add(&self.memory, &*self.disk.files(), &clock, &luck, &order)
            .map(|agent| agent.logical_bytes.0)
    }
}

#[test]
fn agents_are_added_listed_and_found_by_name_and_id() {
    let place = Place::new();
    assert_eq!(place.add("web", &[("root", "/root.img"), ("data", "/data.img")]), Ok(12_288));
    assert_eq!(place.add("db", &[("root", "/root.img")]), Ok(4_096));
    let agents = list(&place.memory, &*place.disk.files()).unwrap();
    let names: Vec<_> = agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["db", "web"]);
    let row = find(&place.memory, &agents[1].agent_id.to_string()).unwrap();
    assert_eq!(row.name, "web");
    place.disk.files().remove(Path::new("/data.img")).unwrap();
    let shown = view(&*place.disk.files(), &row);
    assert_eq!(shown.logical_bytes.0, 12_288, "the size last seen stands");
    assert!(shown.volumes[1].problem.as_deref().unwrap().contains("does not exist"));
}

#[test]
fn bad_input_is_refused_in_words_and_leaves_nothing() {
    let place = Place::new();
    place.add("web", &[("root", "/root.img")]).unwrap();
    let long = "x".repeat(5_000);
    let many: Vec<_> = (0..300).map(|_| ("root", "/root.img")).collect();
    for (name, volumes, code, word) in [
        ("web", &[("root", "/root.img")][..], ErrorCode::AlreadyExists, "already"),
        ("a/b", &[("root", "/root.img")], ErrorCode::BadRequest, "read as something else"),
        ("", &[("root", "/root.img")], ErrorCode::BadRequest, "empty"),
        ("a\u{202e}b", &[("root", "/root.img")], ErrorCode::BadRequest, "cannot be seen"),
        ("new", &[], ErrorCode::BadRequest, "not 0"),
        ("new", &many, ErrorCode::BadRequest, "not 300"),
        ("new", &[("r\n", "/root.img")], ErrorCode::BadRequest, "cannot be seen"),
        ("new", &[("a", "/root.img"), ("a", "/data.img")], ErrorCode::BadRequest, "twice"),
        ("new", &[("a", "/root.img"), ("b", "/root.img")], ErrorCode::BadRequest, "twice"),
        ("new", &[("a", "root.img")], ErrorCode::BadRequest, "absolute"),
        ("new", &[("a", "/none.img")], ErrorCode::BadRequest, "does not exist"),
        ("new", &[("a", "/directory")], ErrorCode::BadRequest, "is a directory"),
        ("new", &[("a", &long)], ErrorCode::BadRequest, "absolute"),
    ] {
        let trouble = place.add(name, volumes).unwrap_err();
        assert_eq!(trouble.code, code, "{trouble}");
        assert!(trouble.message.contains(word), "{word}: {trouble}");
        assert!(!trouble.hint.is_empty() && trouble.message.len() < 400, "{trouble}");
    }
    assert_eq!(list(&place.memory, &*place.disk.files()).unwrap().len(), 1);
    assert_eq!(find(&place.memory, "none").unwrap_err().code, ErrorCode::AgentUnknown);
}
