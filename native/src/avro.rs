//! Avro's binary form, as far as an order needs it. Every reader returns None for what it does not take.

/// Reads from the front of a slice.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Return a number that is not negative, in its shortest form; all that an order holds are such.
    pub fn unsigned(&mut self) -> Option<u64> {
        let mut zigzag: u64 = 0;
        for shift in (0..63).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let is_longer_than_needed = byte == 0 && shift > 0;
                let is_negative = zigzag & 1 == 1;
                return (!is_longer_than_needed && !is_negative).then_some(zigzag >> 1);
            }
        }
        None
    }

    /// Return a number from `least` to `most`.
    pub fn within(&mut self, least: u64, most: u64) -> Option<u64> {
        self.unsigned().filter(|number| (least..=most).contains(number))
    }

    /// Return a text of 1 to `length_max` printable characters of ASCII: there Python and this agree on what is one.
    pub fn name(&mut self, length_max: u64) -> Option<&'a str> {
        let length = usize::try_from(self.within(1, length_max)?).ok()?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let is_printable = text.iter().all(|byte| matches!(byte, b' '..=b'~'));
        is_printable.then(|| std::str::from_utf8(text).ok())?
    }
}
