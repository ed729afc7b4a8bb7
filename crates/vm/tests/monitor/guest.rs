//! Images of a few instructions, put together by hand.

/// An image under construction: 64-bit code that starts at [`Guest::ENTRY`].
#[derive(Default)]
pub(crate) struct Guest {
    code: Vec<u8>,
}

impl Guest {
    /// Where the code is in memory.
    pub(crate) const ENTRY: u64 = 0x20_0000;

    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn then(mut self, code: &[u8]) -> Self {
        self.code.extend_from_slice(code);
        self
    }

    /// Writes a byte to a port: `mov dx, port; mov al, value; out dx, al`.
    pub(crate) fn out(self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.then(&[0x66, 0xba, low, high, 0xb0, value, 0xee])
    }

    /// Writes text to the serial port.
    pub(crate) fn say(self, text: &str) -> Self {
        text.bytes()
            .fold(self, |guest, byte| guest.out(0x3f8, byte))
    }

    /// Stores 32 bits at an address: `mov rdi, at; mov eax, value; mov [rdi], eax`.
    pub(crate) fn store(self, at: u64, value: u32) -> Self {
        self.then(&[0x48, 0xbf])
            .then(&at.to_le_bytes())
            .then(&[0xb8])
            .then(&value.to_le_bytes())
            .then(&[0x89, 0x07])
    }

    /// Maps the devices: the page tables that the image finds end at 1 GiB.
    pub(crate) fn map_devices(self) -> Self {
        self.store(0xa000 + 3 * 8, 0xc000 | 3)
            .store(0xa000 + 3 * 8 + 4, 0)
            .store(0xc000 + 0x80 * 8, 0xd000_0000 | 0x83)
    }

    /// Loads 32 bits from an address and writes the lowest byte to a port:
    /// `mov rdi, at; mov eax, [rdi]; mov dx, port; out dx, al`.
    pub(crate) fn load_to_port(self, at: u64, port: u16) -> Self {
        let [low, high] = port.to_le_bytes();
        self.then(&[0x48, 0xbf])
            .then(&at.to_le_bytes())
            .then(&[0x8b, 0x07, 0x66, 0xba, low, high, 0xee])
    }

    /// Waits until the 16 bits at an address have a value:
    /// `mov rdi, at; again: cmp word [rdi], value; jne again`.
    pub(crate) fn wait_for(self, at: u64, value: u16) -> Self {
        let [low, high] = value.to_le_bytes();
        self.then(&[0x48, 0xbf])
            .then(&at.to_le_bytes())
            .then(&[0x66, 0x81, 0x3f, low, high, 0x75, 0xf9])
    }

    /// Repeats all from here on for ever, as the last thing.
    pub(crate) fn again(self, from: usize) -> Self {
        let back = i32::try_from(from).unwrap() - i32::try_from(self.code.len() + 5).unwrap();
        self.then(&[0xe9]).then(&back.to_le_bytes())
    }

    /// Bytes of code until here.
    pub(crate) fn here(&self) -> usize {
        self.code.len()
    }

    /// An exception without a handler: `ud2`, with the interrupt table that there is none of.
    pub(crate) fn fail(self) -> Self {
        self.then(&[0x0f, 0x0b])
    }

    /// Waits for an interrupt: `hlt`.
    pub(crate) fn halt(self) -> Self {
        self.then(&[0xf4])
    }

    /// Ends the machine.
    pub(crate) fn reset(self) -> Self {
        self.out(0x64, 0xfe)
    }

    /// The ELF file: one segment that is all of it, header included.
    pub(crate) fn elf(self) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        file.extend((Self::ENTRY + 120).to_le_bytes());
        file.extend(64_u64.to_le_bytes());
        file.extend(0_u64.to_le_bytes());
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let len = 120 + self.code.len() as u64;
        for field in [0x5_0000_0001, 0, Self::ENTRY, Self::ENTRY, len, len, 0x1000] {
            let field: u64 = field;
            file.extend(field.to_le_bytes());
        }
        assert_eq!(file.len(), 120);
        file.extend(self.code);
        file
    }
}
