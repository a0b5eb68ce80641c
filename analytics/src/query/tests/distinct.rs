//! Distinct ids are counted as the same question without `count(distinct …)` counts them.

use rollcall_store::account::Role;

use super::world::{caller, engine, rows};

#[tokio::test]
async fn distinct_ids_alone_in_groups_and_with_nulls_are_those_of_a_grouping() {
    let engine = engine();
    let of = "(select section, minutes, case when minutes > 20 then person end as late, person from events)";
    let pairs = [
        (
            format!("select count(distinct late), count(distinct section) from {of}"),
            format!(
                "select a.n, b.n from (select count(late) as n from (select distinct late from {of})) a, (select count(section) as n from (select distinct section from {of})) b"
            ),
        ),
        (
            format!("select section, count(distinct late), count(distinct person), count(*) from {of} group by section"),
            format!(
                "select a.section, a.late, b.people, c.n \
                 from (select section, count(late) as late from (select distinct section, late from {of}) group by section) a \
                 join (select section, count(*) as people from (select distinct section, person from {of}) group by section) b \
                 on a.section = b.section \
                 join (select section, count(*) as n from {of} group by section) c on a.section = c.section"
            ),
        ),
    ];
    for (asked, reference) in pairs {
        let asked = rows(&engine, &caller(Role::Office), &asked).await.unwrap();
        let reference = rows(&engine, &caller(Role::Office), &reference).await.unwrap();
        assert_eq!(asked, reference);
        assert!(!asked.is_empty());
    }
}
