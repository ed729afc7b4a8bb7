//! The monitor on its own, which the tests of this crate start. `plumb` has it built in.

fn main() {
    if plumb_vm::embedded::is_monitor() {
        plumb_vm::embedded::main();
    }
}
