//! Weekdays as people write them: `Mon-Fri`, `Mon Wed Fri`, `Sunday-Thursday`; separated by spaces, `|` or `;`.

/// Bit 0 is Monday, bit 6 Sunday.
pub const EVERY_DAY: u8 = 0b111_1111;
pub const MONDAY_TO_FRIDAY: u8 = 0b001_1111;

const NAMES: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// `None` when a word is no weekday. A range may run over the end of the week.
pub fn parse(text: &str) -> Option<u8> {
    let mut days = 0;
    for part in text.split([' ', '|', ';']).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (day_of(first)?, day_of(last)?);
        days |= 1 << day;
        while day != last {
            day = (day + 1) % 7;
            days |= 1 << day;
        }
    }
    (days != 0).then_some(days)
}

/// A weekday's name or its beginning of at least two letters, which no two weekdays share.
fn day_of(text: &str) -> Option<usize> {
    let text = text.to_ascii_lowercase();
    NAMES.iter().position(|name| text.len() >= 2 && name.starts_with(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weekdays_are_read_as_people_write_them() {
        let cases = [
            ("Mon-Fri", Some(MONDAY_TO_FRIDAY)),
            ("mon wed FRI", Some(0b1_0101)),
            ("Sunday-Thursday", Some(0b100_1111)),
            ("Tu|Thu", Some(0b1010)),
            ("Fri-Mon", Some(0b111_0001)),
            ("m", None),
            ("Mon-Funday", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
