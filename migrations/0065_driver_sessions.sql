-- Drivers that come in by the doors of Flight SQL and PostgreSQL have sessions of a kind of their own: they end with the connection
-- or soon after their last use, and are nobody's API tokens.
alter table rollcall.session drop constraint session_kind;
alter table rollcall.session add constraint session_kind check (kind in ('cookie', 'api', 'driver'));
comment on column rollcall.session.kind is 'cookie: of a browser; api: a token that a program presents; driver: of a connection through a door';
