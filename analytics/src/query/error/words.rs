//! What the library says, in words for people who have never heard of it.

use super::types;

/// The message without what names the library's layers, in one line.
pub(super) fn plain(text: &str) -> String {
    const PREFIXES: [&str; 12] = [
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "Internal error: ",
        "External error: ",
        "This feature is not implemented: ",
        "Schema error: ",
        "Resources exhausted: ",
        "Compute error: ",
        "Cast error: ",
        "Parser error: ",
        "Invalid argument error: ",
    ];
    let mut text = text.trim_start();
    loop {
        let caused = text.strip_prefix("Optimizer rule '").or_else(|| text.strip_prefix("Analyzer rule '"));
        if let Some((_, cause)) = caused.and_then(|text| text.split_once("caused by")) {
            text = cause.trim_start();
            continue;
        }
        match PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
            Some(rest) => text = rest,
            None => break,
        }
    }
    let line = text.lines().next().unwrap_or(text);
    types::without(without_trees(line))
}

/// What may help, which quotes expressions and no constants.
pub(super) fn plain_help(text: &str) -> String {
    text.split('\'').map(types::without).collect::<Vec<_>>().join("'")
}

/// The message before the first part of a syntax tree that it shows.
fn without_trees(line: &str) -> &str {
    match line.find(" { ") {
        Some(at) if line.contains("Span(") => line[..at].rsplit_once(' ').map_or(line, |(before, _)| before).trim_end_matches([' ', ':']),
        _ => line,
    }
}

/// What a message says when it is one of those that speak of the library's insides; what may help.
pub(super) fn reworded(text: &str) -> Option<(String, Option<String>)> {
    signature(text).or_else(|| function(text)).or_else(|| Some((pattern(text).or_else(|| known(text))?, None)))
}

/// Messages that are said otherwise, by what they begin with and what follows that.
fn known(text: &str) -> Option<String> {
    if let Some((_, node)) = text.split_once("Unsupported ast node ") {
        return Some(format!("{} is not supported", node.split([' ', '(', '{']).next()?.to_uppercase()));
    }
    let text = plain(text);
    let after = |begin: &str| text.split_once(begin).map(|(_, rest)| rest);
    let name_in = |rest: &str, quote: char| rest.split(quote).nth(1).map(str::to_owned);
    if let Some(rest) = after("must be in GROUP BY or an aggregate function: ") {
        return Some(format!("the column {:?} is neither in GROUP BY nor in an aggregate function", name_in(rest, '"')?));
    }
    if let Some(rest) = after("Expected LIMIT to be an integer or null, but got ") {
        return Some(format!("LIMIT takes a whole number below 9,223,372,036,854,775,808, not {}", types::in_words(rest)));
    }
    if after("Unsupported LIMIT expression").is_some() || after("Unsupported OFFSET expression").is_some() {
        return Some("LIMIT and OFFSET take a number that is known before the query runs".to_owned());
    }
    if after("Projections require unique expression names").is_some() {
        return Some("two columns have the same name; give one of them another with AS".to_owned());
    }
    if let Some(rest) = after("duplicate qualified field name ") {
        let table = rest.split('.').next().unwrap_or(rest);
        return Some(format!("two tables are called {table:?}; give one of them another name"));
    }
    if let Some(rest) = after("duplicate unqualified field name ") {
        return Some(format!("two columns are called {rest:?}; give one of them another name"));
    }
    if let Some(rest) = after("Unsupported SQL type ") {
        return Some(format!("there is no type {:?}", rest.to_lowercase()));
    }
    if let Some(rest) = after("Invalid qualifier ") {
        return Some(format!("there is no table {rest:?} here"));
    }
    if let Some(rest) = after("table function '") {
        return Some(format!("there is no table function {:?}", rest.split('\'').next()?));
    }
    if let Some((value, rest)) = text.split_once(" to value of ") {
        return Some(format!("{value} to {}", rest.strip_suffix(" type").unwrap_or(rest)));
    }
    if let Some((value, _)) = after("Can't cast value ").and_then(|rest| rest.split_once(" to type ")) {
        return Some(format!("{value} is out of the range of the type that it is to have"));
    }
    if after("Aggregate function calls cannot be nested").is_some() {
        return Some("an aggregate function cannot stand in another; compute the inner one in a subquery".to_owned());
    }
    if after("names given as column alias").is_some() {
        return Some("a table is given another number of names for its columns than it has columns".to_owned());
    }
    if let Some(rest) = after("WITH query name ") {
        return Some(format!("WITH names {:?} more than once", name_in(rest, '"')?));
    }
    if is_shouted(&text) {
        return Some(format!("{text} is not supported"));
    }
    None
}

/// Whether a message is the name of a clause and nothing else.
fn is_shouted(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|character| character.is_ascii_uppercase() || character == ' ')
}

/// Functions that stand with OVER only.
const OF_WINDOWS: [&str; 8] = ["row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead"];

/// A function that is not there.
fn function(text: &str) -> Option<(String, Option<String>)> {
    let name = text.split_once("Invalid function '")?.1.split('\'').next()?;
    if OF_WINDOWS.contains(&name) {
        return Some((format!("{name} is a function of a window; write OVER (...) behind it"), None));
    }
    let near = text.split_once("Did you mean '").and_then(|(_, rest)| rest.split('\'').next());
    let hint = near.and_then(|near| nearest(name, std::iter::once(near))).map(did_you_mean);
    Some((format!("there is no function {name:?}"), hint))
}

/// The word of a text that a message is about where nothing else says the place.
pub(super) fn named(text: &str) -> Option<String> {
    let node = text.split_once("Unsupported ast node ").and_then(|(_, node)| node.split([' ', '(', '{']).next());
    if let Some(node) = node {
        return Some(node.to_owned());
    }
    let text = plain(text);
    let word = |begin: &str| {
        let rest = text.split_once(begin)?.1.trim_start_matches(['\'', '"']);
        Some(rest.split(|character: char| !character.is_alphanumeric() && character != '_').next()?.to_owned())
    };
    let begins = ["Unsupported SQL type ", "Invalid qualifier ", "table function '", "Unsupported ", "a condition on "];
    let found = begins.iter().find_map(|begin| word(begin));
    let first = || is_shouted(&text).then(|| text.clone());
    let of_function = || text.split_once(" function requires ").map(|(name, _)| name.to_owned());
    found.or_else(of_function).or_else(first)
}

/// The function that a message says is called with values which it does not take.
pub(in crate::query) fn called(text: &str) -> Option<String> {
    if let Some((name, _)) = given(text) {
        return Some(name.to_lowercase());
    }
    // Said of a call without values, which has no types.
    let name = text.split_once("' does not support zero arguments")?.0.rsplit('\'').next()?;
    Some(name.to_lowercase())
}

/// The function and the types that it was given, of "… the given name and argument types 'name(Types)'".
fn given(text: &str) -> Option<(&str, &str)> {
    let call = text.split_once("No function matches the given name and argument types '")?.1;
    let call = call.split_once("'. You might")?.0;
    let (name, types) = call.split_once('(')?;
    Some((name, types.strip_suffix(')')?))
}

fn signature(text: &str) -> Option<(String, Option<String>)> {
    let Some((name, types)) = given(text) else {
        let name = called(text)?;
        return Some((format!("{name} is called without a value"), None));
    };
    let types = types::all(types);
    let said = match types.as_slice() {
        [] => format!("{name} is called without a value"),
        types => format!("{name} does not take {}", types.join(", ")),
    };
    let counts = text.split_once(" expects ").and_then(|(_, rest)| {
        let (wanted, rest) = rest.split_once(" arguments but received ")?;
        let received: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((wanted.parse::<usize>().ok()?, received.parse::<usize>().ok()?))
    });
    let hint = counts.filter(|(wanted, received)| wanted != received && !text.contains("any signature"));
    Some((said, hint.map(|(wanted, received)| format!("it takes {wanted} values, not {received}"))))
}

/// A regular expression that cannot be used.
fn pattern(text: &str) -> Option<String> {
    let why = match text.split_once("Regular expression did not compile: ") {
        Some((_, why)) => why,
        None => text.split_once("regex parse error:")?.1,
    };
    if why.starts_with("CompiledTooBig") {
        return Some("the regular expression is too large; write it with fewer or smaller repetitions".to_owned());
    }
    let why = why.lines().find_map(|line| line.trim().strip_prefix("error: ")).map(|why| format!(": {why}"));
    Some(format!("this is no regular expression{}", why.unwrap_or_default()))
}

/// The table's own name in "table 'a.b.c' not found".
pub(super) fn missing_table(message: &str) -> Option<String> {
    let name = message.strip_prefix("table '")?.split_once("' not found")?.0;
    // The catalog and schema are the engine's; a name that the author qualified otherwise is said whole.
    Some(name.strip_prefix("rollcall.public.").unwrap_or(name).to_owned())
}

pub(super) fn did_you_mean(name: &str) -> String {
    format!("did you mean {name:?}?")
}

/// The known name that is fewest edits away, when that is not more than a third of it.
pub(super) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.rsplit('.').next().unwrap_or(wanted).to_ascii_lowercase();
    let scored = known.map(|name| (edits(&wanted, &name.to_ascii_lowercase()), name));
    scored.min().filter(|(edits, name)| *edits <= (name.len() / 3).max(1)).map(|(_, name)| name)
}

/// Insertions, deletions and replacements that make one text of the other.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let cost = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
