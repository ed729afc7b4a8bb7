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
