//! RFC 3339 to milliseconds without an allocation. Fractions below a millisecond are cut off, as a clock that shows
//! milliseconds would.

/// Milliseconds since the epoch; `None` when the text is not an RFC 3339 instant with an offset. A second of 60 is the
/// leap second that the standard allows and counts as the one after it.
pub fn parse(text: &str) -> Option<i64> {
    let b = text.as_bytes();
    if b.len() < 20 || b[4] != b'-' || b[7] != b'-' || b[13] != b':' || b[16] != b':' {
        return None;
    }
    if !matches!(b[10], b'T' | b't' | b' ') {
        return None;
    }
    let year = digits(&b[0..4])?;
    let (month, day) = (digits(&b[5..7])?, digits(&b[8..10])?);
    let (hour, minute, second) = (digits(&b[11..13])?, digits(&b[14..16])?, digits(&b[17..19])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (millis, rest) = fraction(&b[19..])?;
    let offset_min = offset(rest)?;
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_min * 60;
    Some(seconds * 1_000 + millis)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |value, b| b.is_ascii_digit().then(|| value * 10 + i64::from(b - b'0')))
}

fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    if bytes.first() != Some(&b'.') {
        return Some((0, bytes));
    }
    let count = bytes[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let shown = digits(&bytes[1..1 + count.min(3)])?;
    let scale = [100, 10, 1][count.min(3) - 1];
    Some((shown * scale, &bytes[1 + count..]))
}

fn offset(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let total = hours * 60 + minutes;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -total } else { total })
        }
        _ => None,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 of the proleptic Gregorian calendar, counted in years that begin in March so that the leap day
/// is the last one.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn known_instants() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-20T07:58:03.412+03:00", Some(1_795_150_683_412)),
            ("2000-02-29T23:59:59.9999999-00:30", Some(951_870_599_999)),
            ("1969-12-31T23:59:59.5z", Some(-500)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800_000)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-11-20T07:58:03", None),
            ("2026-11-20T07:58:03.Z", None),
            ("2026-11-20T24:00:00Z", None),
            ("2026-11-20T07:58:03+0300", None),
            ("2026-11-20T07:58:03+24:00", None),
            ("２026-11-20T07:58:03Z", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
