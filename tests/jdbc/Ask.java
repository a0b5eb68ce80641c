import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.postgresql.util.PSQLException;

/**
 * Asks a running server through the PostgreSQL protocol with the JDBC driver, as DBeaver and its like do, and prints what came
 * of each step as one line of JSON.
 *
 * Usage: java -cp postgresql.jar Ask.java URL, with the account and its password as the first two lines of standard input and a
 * step on each line that follows, its parts apart by tabs. A step is one of the names in {@link #answer}; its answer is {"ok": ...}
 * or {"error": what the driver said, "code": SQLSTATE, "position": character, if the server named one}.
 */
public final class Ask {
    private final Connection connection;
    private final BufferedReader told;

    private Ask(Connection connection, BufferedReader told) {
        this.connection = connection;
        this.told = told;
    }

    public static void main(String[] arguments) throws IOException {
        BufferedReader told = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String account = told.readLine();
        String password = told.readLine();
        try (Connection connection = DriverManager.getConnection(arguments[0], account, password)) {
            Ask ask = new Ask(connection, told);
            for (String step = told.readLine(); step != null; step = told.readLine()) {
                String[] parts = step.split("\t", -1);
                try {
                    say(Map.of("ok", ask.answer(parts[0], parts)));
                } catch (SQLException error) {
                    say(refusal(error));
                }
            }
        } catch (SQLException error) {
            say(refusal(error));
        }
    }

    private Object answer(String name, String[] parts) throws SQLException, IOException {
        DatabaseMetaData about = connection.getMetaData();
        return switch (name) {
            case "server" -> List.of(about.getDatabaseProductName(), about.getDatabaseProductVersion(), about.getUserName(),
                    String.valueOf(connection.getCatalog()), String.valueOf(connection.getSchema()));
            case "catalogs" -> column(about.getCatalogs(), "TABLE_CAT");
            case "schemas" -> column(about.getSchemas(), "TABLE_SCHEM");
            case "table kinds" -> column(about.getTableTypes(), "TABLE_TYPE");
            case "tables" -> column(about.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"}), "TABLE_NAME");
            case "columns" -> named(about.getColumns(null, "public", parts[1], "%"), "COLUMN_NAME", "TYPE_NAME");
            case "types" -> column(about.getTypeInfo(), "TYPE_NAME");
            case "keys" -> keys(about, parts[1]);
            case "functions" -> table(about.getFunctions(null, null, "%"));
            case "query" -> query(parts);
            case "again" -> again(parts);
            case "parameters" -> parameters(parts[1]);
            case "fetched" -> fetched(parts[1], Integer.parseInt(parts[2]));
            case "update" -> update(parts[1]);
            case "together" -> together(parts[1]);
            case "read only" -> readOnly(parts[1]);
            case "rolled back" -> rolledBack(parts[1], parts[2]);
            case "within" -> within(parts[1], Integer.parseInt(parts[2]));
            case "cancel" -> cancel(parts[1]);
            case "valid" -> connection.isValid(5);
            default -> throw new IllegalArgumentException("no step " + name);
        };
    }

    /** A text with values for its parameters: a number that the driver sends as a long, or a text. */
    private Object query(String[] parts) throws SQLException {
        if (parts.length == 2) {
            try (Statement statement = connection.createStatement()) {
                return table(statement.executeQuery(parts[1]));
            }
        }
        try (PreparedStatement statement = connection.prepareStatement(parts[1])) {
            for (int at = 2; at < parts.length; at++) {
                set(statement, at - 1, parts[at]);
            }
            return table(statement.executeQuery());
        }
    }

    private static void set(PreparedStatement statement, int at, String value) throws SQLException {
        if (value.matches("-?\\d+")) {
            statement.setLong(at, Long.parseLong(value));
        } else if (value.matches("\\d{4}-\\d\\d-\\d\\dT.*")) {
            statement.setObject(at, OffsetDateTime.parse(value));
        } else {
            statement.setString(at, value);
        }
    }

    /** One prepared statement with one value after the other, so often that the driver makes it a named one with binary results. */
    private Object again(String[] parts) throws SQLException {
        List<Object> answers = new ArrayList<>();
        try (PreparedStatement statement = connection.prepareStatement(parts[1])) {
            for (int at = 2; at < parts.length; at++) {
                set(statement, 1, parts[at]);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    answers.add(rows.getObject(1));
                }
            }
        }
        return answers;
    }

    /** What the driver is told of a text before it runs: the types of its parameters and of its columns. */
    private Object parameters(String sql) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            List<String> types = new ArrayList<>();
            for (int at = 1; at <= statement.getParameterMetaData().getParameterCount(); at++) {
                types.add(statement.getParameterMetaData().getParameterTypeName(at));
            }
            return Map.of("parameters", types, "columns", typed(statement.getMetaData()));
        }
    }

    /** The rows of a text, so many at a time, as a tool reads a table that does not fit into its memory. */
    private Object fetched(String sql, int size) throws SQLException {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(size);
            long count = 0;
            try (ResultSet rows = statement.executeQuery(sql)) {
                while (rows.next()) {
                    count++;
                }
            }
            connection.commit();
            return count;
        } catch (SQLException error) {
            connection.rollback();
            throw error;
        } finally {
            connection.setAutoCommit(true);
        }
    }

    private Object update(String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return statement.executeUpdate(sql);
        }
    }

    /** Several statements in one text: the tables of those that have one. */
    private Object together(String sql) throws SQLException {
        List<Object> answers = new ArrayList<>();
        try (Statement statement = connection.createStatement()) {
            boolean hasRows = statement.execute(sql);
            while (hasRows || statement.getUpdateCount() != -1) {
                if (hasRows) {
                    answers.add(table(statement.getResultSet()));
                }
                hasRows = statement.getMoreResults();
            }
        }
        return answers;
    }

    private Object readOnly(String sql) throws SQLException {
        connection.setReadOnly(true);
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        connection.setAutoCommit(false);
        try {
            Object answer = query(new String[] {"query", sql});
            connection.commit();
            return answer;
        } finally {
            connection.setAutoCommit(true);
            connection.setReadOnly(false);
        }
    }

    /** After an error inside a transaction a rollback makes the connection useful again. */
    private Object rolledBack(String wrong, String right) throws SQLException {
        connection.setAutoCommit(false);
        try {
            query(new String[] {"query", wrong});
            throw new SQLException("nothing was wrong with " + wrong);
        } catch (PSQLException expected) {
            connection.rollback();
            return query(new String[] {"query", right});
        } finally {
            connection.setAutoCommit(true);
        }
    }

    private Object within(String sql, int seconds) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(seconds);
            return table(statement.executeQuery(sql));
        }
    }

    /** Says that the query runs, waits for a line, and cancels it from another thread. */
    private Object cancel(String sql) throws SQLException, IOException {
        try (Statement statement = connection.createStatement()) {
            Thread waiting = new Thread(() -> {
                try {
                    told.readLine();
                    statement.cancel();
                } catch (IOException | SQLException error) {
                    throw new IllegalStateException(error);
                }
            });
            waiting.start();
            say(Map.of("running", true));
            return table(statement.executeQuery(sql));
        }
    }

    private Object keys(DatabaseMetaData about, String table) throws SQLException {
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("primary", column(about.getPrimaryKeys(null, "public", table), "COLUMN_NAME"));
        found.put("imported", column(about.getImportedKeys(null, "public", table), "FKCOLUMN_NAME"));
        found.put("exported", column(about.getExportedKeys(null, "public", table), "FKCOLUMN_NAME"));
        found.put("indexes", column(about.getIndexInfo(null, "public", table, false, true), "INDEX_NAME"));
        found.put("privileges", table(about.getTablePrivileges(null, "public", table)));
        return found;
    }

    private static Object table(ResultSet rows) throws SQLException {
        try (rows) {
            ResultSetMetaData about = rows.getMetaData();
            List<Object> lines = new ArrayList<>();
            while (rows.next()) {
                List<Object> line = new ArrayList<>();
                for (int at = 1; at <= about.getColumnCount(); at++) {
                    line.add(rows.getObject(at));
                }
                lines.add(line);
            }
            return Map.of("columns", List.copyOf(typed(about).keySet()), "rows", lines);
        }
    }

    private static Map<String, Object> typed(ResultSetMetaData about) throws SQLException {
        Map<String, Object> columns = new LinkedHashMap<>();
        for (int at = 1; at <= about.getColumnCount(); at++) {
            columns.put(about.getColumnLabel(at), about.getColumnTypeName(at));
        }
        return columns;
    }

    private static List<Object> column(ResultSet rows, String name) throws SQLException {
        try (rows) {
            List<Object> values = new ArrayList<>();
            while (rows.next()) {
                values.add(rows.getObject(name));
            }
            return values;
        }
    }

    private static Map<String, Object> named(ResultSet rows, String key, String value) throws SQLException {
        try (rows) {
            Map<String, Object> found = new LinkedHashMap<>();
            while (rows.next()) {
                found.put(rows.getString(key), rows.getObject(value));
            }
            return found;
        }
    }

    private static Map<String, Object> refusal(SQLException error) {
        Map<String, Object> told = new LinkedHashMap<>();
        told.put("error", String.valueOf(error.getMessage()));
        told.put("code", error.getSQLState());
        if (error instanceof PSQLException ours && ours.getServerErrorMessage() != null) {
            told.put("position", ours.getServerErrorMessage().getPosition());
        }
        return told;
    }

    private static void say(Object answer) {
        System.out.println(json(answer));
        System.out.flush();
    }

    private static String json(Object value) {
        if (value == null || value instanceof Boolean || value instanceof Number) {
            return String.valueOf(value);
        }
        if (value instanceof Map<?, ?> map) {
            List<String> fields = new ArrayList<>();
            map.forEach((key, field) -> fields.add(json(key) + ":" + json(field)));
            return "{" + String.join(",", fields) + "}";
        }
        if (value instanceof Collection<?> items) {
            return "[" + String.join(",", items.stream().map(Ask::json).toList()) + "]";
        }
        String written = value instanceof Timestamp instant ? instant.toInstant().toString() : value.toString();
        StringBuilder text = new StringBuilder("\"");
        for (char one : written.toCharArray()) {
            if (one == '"' || one == '\\') {
                text.append('\\').append(one);
            } else if (one < ' ') {
                text.append(String.format("\\u%04x", (int) one));
            } else {
                text.append(one);
            }
        }
        return text.append('"').toString();
    }
}
