//! What the monitor is told on its command line. File descriptors come over its standard input
//! instead, so that nothing has to be inherited by number and no other process that the parent
//! starts at the same time gets hold of them.

use std::ffi::OsString;

/// Name that the monitor is started under: `argv[0]`, and what `ps` shows.
pub(super) const NAME: &str = "plumb-vmm";

/// What the monitor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    /// Name of the machine, for whoever looks at processes.
    pub(super) name: Option<String>,
    /// Memory of the machine in MiB.
    pub(super) memory_mib: u32,
    /// MAC address of the machine.
    pub(super) mac: [u8; 6],
    /// Whether pages may be merged (KSM).
    pub(super) merge: bool,
    /// Whether another image than the one that plumb has is to be booted.
    pub(super) image: bool,
    /// Whether there is a boot module.
    pub(super) module: bool,
    /// The process whose death is to end the monitor at once. Only set where the thread that
    /// starts the monitor lives as long as its process does, because the kernel takes the death of
    /// that thread for its parent's (`PR_SET_PDEATHSIG`).
    pub(super) parent: Option<u32>,
    /// Command line of the image.
    pub(super) command_line: String,
}

impl Arguments {
    /// As arguments of a command, without its name.
    #[must_use]
    pub(super) fn to_words(&self) -> Vec<String> {
        let [a, b, c, d, e, f] = self.mac;
        let mut words = vec![
            format!("memory={}", self.memory_mib),
            format!("mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
        ];
        words.extend(self.name.as_ref().map(|name| format!("name={name}")));
        words.extend(self.merge.then(|| "merge".into()));
        words.extend(self.image.then(|| "image".into()));
        words.extend(self.module.then(|| "module".into()));
        words.extend(self.parent.map(|parent| format!("parent={parent}")));
        words.push("--".into());
        words.push(self.command_line.clone());
        words
    }

    /// Reads them back; none if they are not what [`to_words`](Self::to_words) writes.
    pub(super) fn from_words(words: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut words = words.into_iter();
        let mut read = Self {
            name: None,
            memory_mib: 0,
            mac: [0; 6],
            merge: false,
            image: false,
            module: false,
            parent: None,
            command_line: String::new(),
        };
        loop {
            let word = words.next()?.into_string().ok()?;
            match word.split_once('=') {
                Some(("name", name)) => read.name = Some(name.into()),
                Some(("memory", number)) => read.memory_mib = number.parse().ok()?,
                Some(("parent", number)) => read.parent = Some(number.parse().ok()?),
                Some(("mac", mac)) => read.mac = parse_mac(mac)?,
                None if word == "merge" => read.merge = true,
                None if word == "image" => read.image = true,
                None if word == "module" => read.module = true,
                None if word == "--" => break,
                _ => return None,
            }
        }
        read.command_line = words.next()?.into_string().ok()?;
        words.next().is_none().then_some(read)
    }
}

/// The name of the machine that a process with these arguments, its own name included, runs; none
/// if it is no monitor, or its machine has no name.
#[must_use]
pub fn machine_name(arguments: &[String]) -> Option<&str> {
    let (program, words) = arguments.split_first()?;
    let mut words = words.iter().take_while(|word| *word != "--");
    (program == NAME).then(|| words.find_map(|word| word.strip_prefix("name=")))?
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut arguments = Arguments {
            name: Some("web-1".into()),
            memory_mib: 8,
            mac: [2, 0xff, 0, 1, 2, 3],
            merge: true,
            image: true,
            module: false,
            parent: Some(17),
            command_line: "ip=10.0.0.2/24 gw=10.0.0.1 --".into(),
        };
        for _ in 0..2 {
            let words = arguments.to_words();
            let whole = [&[NAME.to_owned()], &words[..]].concat();
            assert_eq!(machine_name(&whole), arguments.name.as_deref());
            assert_eq!(machine_name(&words), None);
            let read = Arguments::from_words(words.iter().map(OsString::from));
            assert_eq!(read.as_ref(), Some(&arguments));
            for len in 0..words.len() {
                let cut = words[..len].iter().map(OsString::from);
                assert_eq!(Arguments::from_words(cut), None);
            }
            (arguments.merge, arguments.image) = (false, false);
            (arguments.module, arguments.parent) = (true, None);
            arguments.name = None;
        }
    }
}
