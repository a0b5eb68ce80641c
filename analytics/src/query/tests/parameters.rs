//! Parameters and their values, descriptions, and what tells rows apart.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use rollcall_store::account::Role;

use super::world::{caller, engine, id};
use crate::query::{Limits, Place, QueryError, Question, RowKey};

fn text(text: &str) -> ScalarValue {
    ScalarValue::from(text)
}

async fn ask(role: Role, sql: &str, values: &[ScalarValue]) -> Result<String, QueryError> {
    let batches = engine().ask(&caller(role), &Question { sql, values, ..Question::default() }, &Limits::default()).await?.collect().await?;
    let columns = batches.iter().flat_map(|batch| batch.columns().to_vec());
    let cells = columns.flat_map(|column| {
        (0..column.len()).map(move |row| arrow::util::display::array_value_to_string(&column, row).unwrap()).collect::<Vec<_>>()
    });
    Ok(cells.collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn a_value_is_what_the_author_would_have_written() {
    let school = uuid::Uuid::from_bytes(id(2, 1)).to_string();
    let cases: [(&str, Vec<ScalarValue>, &str); 10] = [
        ("select count(*) from events where minutes = ?", vec![ScalarValue::from(10_i64)], "41"),
        ("select count(*) from events where minutes = $1", vec![ScalarValue::from(10_i32)], "41"),
        ("select count(*) from events where school = ?", vec![text(&school)], "40"),
        ("select $2 as a, $1 as b, $2 as c", vec![text("a"), text("b")], "b a b"),
        ("select minutes from events where minutes > ? order by minutes limit ?", vec![(-1_i64).into(), 1_i64.into()], "0"),
        ("select count(*) from events where word = ?", vec![text("x' or 'a' = 'a")], "0"),
        ("select ? is null", vec![ScalarValue::Utf8(None)], "true"),
        ("select ? + 0.5e0", vec![ScalarValue::from(1.5_f64)], "2.0"),
        ("select ? < date '2026-01-02'", vec![ScalarValue::Date32(Some(20_454))], "true"),
        (
            "select ? < timestamp '1970-01-02T00:00:00Z'",
            vec![ScalarValue::TimestampMicrosecond(Some(1_000_000), Some("UTC".into()))],
            "true",
        ),
    ];
    for (sql, values, expected) in cases {
        assert_eq!(ask(Role::Office, sql, &values).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")), expected, "{sql}");
    }
}

#[tokio::test]
async fn parameters_are_refused_where_they_are_wrong() {
    let one = [ScalarValue::from(1_i64)];
    let cases: [(&str, &[ScalarValue], Option<Place>); 6] = [
        ("select ?", &[], None),
        ("select 1", &one, None),
        ("select ?,\n $1", &one, Some(Place { line: 1, column: 8 })),
        ("select $0", &[], Some(Place { line: 1, column: 8 })),
        ("select 1,\n  $name", &one, Some(Place { line: 2, column: 3 })),
        ("select $100000000000000000000", &one, Some(Place { line: 1, column: 8 })),
    ];
    for (sql, values, expected) in cases {
        match ask(Role::Office, sql, values).await {
            Err(QueryError::Invalid { place, .. }) => assert_eq!(place, expected, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    // A value opens nothing that the text may not.
    for (sql, value) in [("select count(*) from events where person = ?", uuid::Uuid::from_bytes(id(4, 1)).to_string())] {
        let refused = ask(Role::Analyst, sql, &[text(&value)]).await;
        assert!(matches!(refused, Err(QueryError::Refused { .. })), "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn a_description_has_columns_and_parameters_and_runs_nothing() {
    let engine = engine();
    let describe =
        async |sql: &str| engine.describe(&caller(Role::Office), &Question { sql, ..Question::default() }, &Limits::default()).await;
    let described = describe("select school, minutes / ? as share from events where word = ? and ? is null").await.unwrap();
    let types = |schema: &arrow::datatypes::Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    assert_eq!(described.columns.field(0).name(), "school");
    assert_eq!(types(&described.columns)[0], DataType::Utf8, "ids are shown as text");
    assert_eq!(types(&described.parameters)[1..], [DataType::Utf8, DataType::Utf8]);
    assert!(types(&described.parameters)[0].is_numeric(), "{described:?}");
    // It would take longer than any test to run.
    describe("select count(*) from generate_series(1, 1000000000) a cross join generate_series(1, 1000000000) b").await.unwrap();
    for wrong in ["select nothing from events", "delete from events", "select * from elsewhere"] {
        assert!(describe(wrong).await.is_err(), "{wrong}");
    }
    let one = Question { sql: "select 1", ..Question::default() };
    assert!(matches!(engine.describe(&caller(Role::Guardian), &one, &Limits::default()).await, Err(QueryError::Forbidden)));
}

#[tokio::test]
async fn the_columns_that_a_text_groups_by_tell_its_rows_apart() {
    let engine = engine();
    let cases = [
        ("select count(*) from events", RowKey::Single, false),
        ("select school, count(*) from events group by school", RowKey::Columns(vec![0]), false),
        ("select count(*) as c, word, school from events group by school, word order by c", RowKey::Columns(vec![2, 1]), true),
        ("select count(*) from events group by school", RowKey::Whole, false),
        ("select minutes from events", RowKey::Whole, false),
        ("select distinct word from events", RowKey::Whole, false),
        ("select minutes from events order by minutes limit 3", RowKey::Whole, true),
    ];
    for (sql, key, ordered) in cases {
        let stream = engine.run(&caller(Role::Office), sql, &Limits::default()).await.unwrap();
        let found = stream.key.clone();
        assert_eq!((found, stream.is_ordered), (key, ordered), "{sql}");
    }
}

#[tokio::test]
async fn texts_that_differ_in_spelling_only_are_one() {
    let engine = engine();
    let normalised = |sql: &str| engine.normalised(&caller(Role::Office), sql);
    let one = normalised("select count(*) from events where school = '02010101-0101-0101-0101-010101010101'").unwrap();
    let same = "SELECT count(*)\n  FROM events -- all\n WHERE school='02010101-0101-0101-0101-010101010101'";
    assert_eq!(normalised(same).unwrap(), one);
    assert_ne!(normalised("select count(*) from places").unwrap(), one);
    assert!(normalised("select ?").is_err());
}
