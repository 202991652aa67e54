//! The format of the database: one number, one list of steps.

use redb::{Database, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use super::durable;
use super::error::OpenError;

/// Brings a database from the format of its index to the next.
pub(super) type Step = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// Steps are only ever appended. An empty database has format 0.
pub(super) const STEPS: &[Step] = &[create];

const META: TableDefinition<&str, u32> = TableDefinition::new("meta");
const FORMAT: &str = "format";

/// Format 1: the store's own table. Features create theirs by writing to them.
fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(META)?;
    Ok(())
}

/// Brings the database up to date: each step and the number it leads to in one transaction.
/// Refuses, before writing anything, what a newer build wrote.
pub(super) fn run(db: &Database, steps: &[Step]) -> Result<(), OpenError> {
    let supported = u32::try_from(steps.len()).expect("a short static list");
    let found = format(db)?;
    if found > supported {
        return Err(OpenError::NewerVersion { found, supported });
    }
    for (version, step) in (1..).zip(steps).skip(found as usize) {
        apply(db, version, *step)?;
    }
    Ok(())
}

fn apply(db: &Database, version: u32, step: Step) -> Result<(), redb::Error> {
    let transaction = durable(db)?;
    step(&transaction)?;
    transaction.open_table(META)?.insert(FORMAT, version)?;
    transaction.commit()?;
    Ok(())
}

fn format(db: &Database) -> Result<u32, OpenError> {
    let transaction = db.begin_read().map_err(redb::Error::from)?;
    let table = match transaction.open_table(META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => {
            let mut tables = transaction.list_tables().map_err(redb::Error::from)?;
            return match tables.next() {
                None => Ok(0),
                Some(_) => Err(OpenError::corrupt("it doesn't say its format")),
            };
        }
        Err(e) => return Err(redb::Error::from(e).into()),
    };
    let found = table.get(FORMAT).map_err(redb::Error::from)?;
    found.map_or_else(|| Err(OpenError::corrupt("it doesn't say its format")), |v| Ok(v.value()))
}

#[cfg(test)]
mod tests {
    use redb::ReadableTable;
    use redb::backends::InMemoryBackend;

    use super::*;

    fn database() -> Database {
        Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
    }

    #[test]
    fn steps_run_once_and_in_order() {
        fn second(transaction: &WriteTransaction) -> Result<(), redb::Error> {
            // Fails if the first step has not run or this one runs twice.
            let mut meta = transaction.open_table(META)?;
            assert_eq!(meta.get(FORMAT)?.unwrap().value(), 1);
            assert!(meta.insert("second", 1)?.is_none());
            Ok(())
        }
        let db = database();
        run(&db, STEPS).unwrap();
        run(&db, STEPS).unwrap();
        assert_eq!(format(&db).unwrap(), 1);
        let steps = [create as Step, second];
        run(&db, &steps).unwrap();
        run(&db, &steps).unwrap();
        assert_eq!(format(&db).unwrap(), 2);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let db = database();
        run(&db, STEPS).unwrap();
        apply(&db, 7, |_| Ok(())).unwrap();
        let refused = run(&db, STEPS);
        assert!(matches!(refused, Err(OpenError::NewerVersion { found: 7, supported: 1 })));
        assert_eq!(format(&db).unwrap(), 7);
    }

    #[test]
    fn a_foreign_database_is_refused() {
        let db = database();
        let transaction = db.begin_write().unwrap();
        transaction.open_table(TableDefinition::<u8, u8>::new("somebody's")).unwrap();
        transaction.commit().unwrap();
        assert!(matches!(run(&db, STEPS), Err(OpenError::Corrupt { .. })));
    }
}
