//! Topic names and filters: what is valid, and what matches what.

/// Levels of a topic or filter; bounds the depth of the tree.
pub const LEVELS_MAX: usize = 32;

/// A name that may be published to.
pub fn is_name(topic: &str) -> bool {
    !topic.is_empty() && !topic.bytes().any(|b| matches!(b, b'+' | b'#' | 0)) && topic.split('/').count() <= LEVELS_MAX
}

/// A filter that may be subscribed to, without a `$share` prefix.
pub fn is_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.contains('\0') || filter.split('/').count() > LEVELS_MAX {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        if wild && (level.len() > 1 || (level == "#" && levels.peek().is_some())) {
            return false;
        }
    }
    true
}

/// A subscription as it was asked for: the group of a shared one, and the filter.
pub fn parse(asked: &str) -> Option<(Option<&str>, &str)> {
    let (group, filter) = match asked.strip_prefix("$share/") {
        Some(shared) => shared.split_once('/').map(|(group, filter)| (Some(group), filter))?,
        None => (None, asked),
    };
    let group_is_valid = group.is_none_or(|g| !g.is_empty() && !g.contains(['+', '#']));
    (group_is_valid && is_filter(filter)).then_some((group, filter))
}

/// Whether a topic matches a filter; both valid. Topics that begin with `$` are hidden from a leading wildcard.
pub fn matches(topic: &str, filter: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// What every topic that matches the filter begins with.
pub fn literal_prefix(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    // `a/#` matches `a` too, so the separator before a wildcard is no part of the prefix.
    filter[..end].strip_suffix('/').filter(|_| end < filter.len()).unwrap_or(&filter[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_filters_and_matching() {
        for (topic, filter, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/+", true),
            ("a/b", "#", true),
            ("a", "a/#", true),
            ("a/b/c", "a/#", true),
            ("a/b/c", "a/+", false),
            ("/a", "+/+", true),
            ("/a", "/+", true),
            ("a", "a/+", false),
            ("$SYS/x", "#", false),
            ("$SYS/x", "+/x", false),
            ("$SYS/x", "$SYS/#", true),
            ("é/b", "+/b", true),
        ] {
            assert!(is_name(topic) && is_filter(filter));
            assert_eq!(matches(topic, filter), expected, "{topic} {filter}");
            assert!(!expected || topic.starts_with(literal_prefix(filter)), "{filter}");
        }
        for bad in ["", "a#", "a/#/b", "+a", "a/b+", "##", "a\0"] {
            assert!(!is_filter(bad), "{bad}");
        }
        assert_eq!(parse("$share/g/a/#"), Some((Some("g"), "a/#")));
        for bad in ["$share/g", "$share//a", "$share/+/a", "$share/g/"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
