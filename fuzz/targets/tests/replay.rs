//! Replays the committed corpora, and everything that ever crashed.

use std::fs;
use std::path::Path;

#[test]
fn everything_that_fuzzing_found_is_survived() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (name, target) in plumb_fuzz::TARGETS {
        let folder = corpora.join(name);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
            .map(|entry| entry.expect("a readable folder").path())
            .collect();
        files.sort();
        assert!(files.len() > 10, "{name} has hardly a corpus");
        for file in files {
            let data = fs::read(&file).expect("a readable file");
            println!("{}", file.display());
            target(&data);
        }
    }
}
