//! The library's types as people call them.

/// Types with what they are called. Those of the second kind stand before the constants that a message shows, as in `Int64(1)`.
const OF_CONSTANTS: [(&str, &str); 14] = [
    ("LargeUtf8", "text"),
    ("Utf8View", "text"),
    ("Utf8", "text"),
    ("UInt64", "a whole number"),
    ("UInt32", "a whole number"),
    ("UInt16", "a whole number"),
    ("UInt8", "a whole number"),
    ("Int64", "a whole number"),
    ("Int32", "a whole number"),
    ("Int16", "a whole number"),
    ("Int8", "a whole number"),
    ("Float64", "a number"),
    ("Float32", "a number"),
    ("Boolean", "true or false"),
];

const OTHERS: [(&str, &str); 15] = [
    ("FixedSizeBinary", "an id"),
    ("Decimal128", "a decimal number"),
    ("Decimal256", "a decimal number"),
    ("Decimal64", "a decimal number"),
    ("Decimal32", "a decimal number"),
    ("Timestamp", "a timestamp"),
    ("Date32", "a date"),
    ("Date64", "a date"),
    ("Time32", "a time of day"),
    ("Time64", "a time of day"),
    ("Interval", "an interval"),
    ("Duration", "an interval"),
    ("LargeList", "a list"),
    ("FixedSizeList", "a list"),
    ("List", "a list"),
];

/// One type.
pub(super) fn in_words(name: &str) -> String {
    let kind = name.split(['(', '[', '<']).next().unwrap_or(name).trim();
    let known = OF_CONSTANTS.iter().chain(&OTHERS).find(|(known, _)| *known == kind);
    known.map_or_else(|| kind.to_lowercase(), |(_, word)| (*word).to_owned())
}

/// Types with commas between them.
pub(super) fn all(types: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0_i32);
    for character in types.chars() {
        depth += match character {
            '(' | '[' | '<' | '{' => 1,
            ')' | ']' | '>' | '}' => -1,
            _ => 0,
        };
        match parts.last_mut() {
            Some(part) if depth > 0 || character != ',' => part.push(character),
            _ => parts.push(String::new()),
        }
    }
    parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).map(in_words).collect()
}

/// A message with the types in it in words, and constants without theirs. What it quotes stays.
pub(super) fn without(message: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(message.len()), message);
    while let Some(first) = rest.chars().next() {
        let is_begin = !out.ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let known = OF_CONSTANTS.iter().chain(&OTHERS).enumerate().find(|(_, (name, _))| is_begin && begins_with_word(rest, name));
        if let Some((at, (name, word))) = known {
            let behind = &rest[name.len()..];
            let inner = bracketed(behind);
            match inner {
                Some(inner) if at < OF_CONSTANTS.len() => out.push_str(&inner.replace('"', "'")),
                _ => out.push_str(word),
            }
            rest = &behind[inner.map_or(0, |inner| inner.len() + 2)..];
        } else if let Some(quoted) = (first == '\'').then(|| rest[1..].find('\'')).flatten() {
            out.push_str(&rest[..quoted + 2]);
            rest = &rest[quoted + 2..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

fn begins_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
}

/// What stands in the brackets that a text begins with.
fn bracketed(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('(')?;
    let mut depth = 1;
    let end = inner.char_indices().find(|(_, character)| {
        depth += match character {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    end.map(|(at, _)| &inner[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_said_in_words_and_constants_without_them() {
        for (message, said) in [
            ("Cannot cast string 'Int64' to value of Int64 type", "Cannot cast string 'Int64' to value of a whole number type"),
            ("count(Int64(1)) and f(Utf8(\"x\"))", "count(1) and f('x')"),
            ("FixedSizeBinary(16) = Timestamp(ms, \"UTC\")", "an id = a timestamp"),
            ("myInt64 Listing é'", "myInt64 Listing é'"),
        ] {
            assert_eq!(without(message), said);
        }
        assert_eq!(all("Utf8, Timestamp(ms, \"UTC\"), Null"), ["text", "a timestamp", "null"]);
    }
}
