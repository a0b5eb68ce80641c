//! What is checked once a statement holds as a foreign key would: nothing names what is not there.

use sqlx::AssertSqlSafe;

use crate::database::{Database, District};

/// The error's code of a statement on the district; `None` when it was carried out. Nothing stays of it.
async fn code_of(database: &Database, district: &District, sql: &str) -> Option<String> {
    let mut tenant = database.store.tenant(district.id).await.unwrap();
    let sql = format!("with given as (select $1::uuid, $2::uuid, $3::uuid) {sql}");
    let done =
        sqlx::query(AssertSqlSafe(sql)).bind(district.id.0).bind(district.school.0).bind(district.student.0).execute(&mut *tenant).await;
    done.err().map(|error| error.as_database_error().unwrap().code().unwrap().into_owned())
}

#[tokio::test]
async fn nothing_names_what_is_not_there() {
    let database = Database::start().await;
    let (one, other) = (database.district("One").await, database.district("Other").await);
    let foreign = format!("insert into rollcall.membership (district, person, school) values ($1, '{}', $2)", other.student.0);
    let many = "insert into rollcall.membership (district, person, school, starts)
        select $1, case n when 1500 then gen_random_uuid() else $3 end, $2, '2026-01-01'::date + n from generate_series(1, 2000) n";
    for (sql, refused) in [
        ("insert into rollcall.membership (district, person, school) values ($1, $3, $2)", false),
        ("insert into rollcall.membership (district, person, school) values ($1, gen_random_uuid(), $2)", true),
        ("insert into rollcall.membership (district, person, school) values ($1, $3, gen_random_uuid())", true),
        ("insert into rollcall.guardian (district, guardian, student) values ($1, $3, gen_random_uuid())", true),
        (foreign.as_str(), true),
        (many, true),
        ("delete from rollcall.person where id = $3", false),
    ] {
        assert_eq!(code_of(&database, &one, sql).await.as_deref(), refused.then_some("23503"), "{sql}");
    }
    let mut tenant = database.store.tenant(one.id).await.unwrap();
    sqlx::query("insert into rollcall.membership (district, person, school) values ($1, $2, $3)")
        .bind(one.id.0)
        .bind(one.student.0)
        .bind(one.school.0)
        .execute(&mut *tenant)
        .await
        .unwrap();
    tenant.commit().await.unwrap();
    for sql in [
        "delete from rollcall.person where id = $3",
        "update rollcall.person set id = gen_random_uuid() where id = $3",
        "update rollcall.membership set person = gen_random_uuid() where person = $3",
    ] {
        assert_eq!(code_of(&database, &one, sql).await.as_deref(), Some("23503"), "{sql}");
    }
}
