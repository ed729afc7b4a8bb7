//! The image that is built in.

use plumb_vm::IMAGE;
use plumb_vm::image::Description;

#[test]
#[cfg(target_arch = "x86_64")]
fn the_image_has_both_entries_and_stays_small() {
    let image = Description::of(IMAGE).unwrap();
    let boot = image
        .sections
        .iter()
        .find(|section| section.name == ".boot");
    let boot = boot.unwrap();
    let inside = boot.address..boot.address + boot.size;
    assert!(inside.contains(&image.linux_entry), "{image}");
    assert!(inside.contains(&u64::from(image.pvh_entry.unwrap())));
    // The goal of the whole.
    assert!(image.size < 200_000, "{image}");
}

#[test]
fn no_prefix_of_an_image_makes_the_reader_panic() {
    for len in 0..IMAGE.len().min(2000) {
        let _ = Description::of(&IMAGE[..len]);
    }
    assert_eq!(Description::of(b"\x7fELF\x01\x01"), None);
}

#[test]
fn a_file_that_is_cut_anywhere_or_damaged_is_survived() {
    let program = std::fs::read("/proc/self/exe").unwrap();
    let whole = Description::of(&program).unwrap();
    let has = |name: &str, in_file: bool| {
        let mut sections = whole.sections.iter();
        sections.any(|s| s.name == name && s.in_file == in_file)
    };
    assert!(has(".text", true));
    assert!(has(".bss", false));
    assert_eq!(whole.pvh_entry, None);
    assert_eq!(Description::of(b"no ELF"), None);
    let head = &program[..1 << 12];
    for len in 0..200 {
        let _ = Description::of(&head[..len]);
    }
    for at in 0..0x40 {
        let mut damaged = head.to_vec();
        damaged[at] ^= 0xff;
        let _ = Description::of(&damaged);
    }
}
