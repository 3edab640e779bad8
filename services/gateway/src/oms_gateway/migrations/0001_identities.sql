-- Who may come in: people, their sessions, programs' keys, and what became of both.
-- Nothing here lets anybody in: passwords are kept as Argon2id hashes, tokens and secrets as SHA-256 of random bytes.

create table users (
    name          text        primary key,           -- lower case; events name `user:<name>`
    display_name  text        not null,
    roles         text[]      not null,
    locations     text[],                            -- null: all
    password_hash text,                              -- null: signs in at the OpenID provider alone
    oidc_issuer   text,
    oidc_subject  text,
    created_at    timestamptz not null,
    disabled_at   timestamptz,
    unique (oidc_issuer, oidc_subject),
    check ((oidc_issuer is null) = (oidc_subject is null))
);

-- Failed sign-ins in a row by user name and by address, each as a SHA-256: names that nobody has are counted like others, and what is typed
-- there may be a password. An attempt counts as failed until it has succeeded.
create table sign_in_attempts (
    subject      bytea       primary key,
    failures     integer     not null,
    at           timestamptz not null,
    locked_until timestamptz
);

create index sign_in_attempts_at on sign_in_attempts (at);

create table sessions (
    token_hash bytea       primary key,
    user_name  text        not null references users on delete cascade,
    created_at timestamptz not null,
    seen_at    timestamptz not null,                 -- to the minute
    expires_at timestamptz not null
);

create index sessions_user on sessions (user_name, created_at);
create index sessions_expires on sessions (expires_at);

create table api_keys (
    id           text        primary key,            -- is in the key, before its secret
    name         text        not null,               -- events name `key:<name>`; a key and those that replace it share it
    secret_hash  bytea       not null,
    scopes       text[]      not null,
    channel      text,                               -- null: all
    locations    text[],                             -- null: all
    created_at   timestamptz not null,
    created_by   text        not null,
    expires_at   timestamptz,
    last_used_at timestamptz,                        -- to the minute
    revoked_at   timestamptz,
    replaces     text        unique references api_keys
);

create unique index api_keys_name on api_keys (name) where replaces is null;

create table audit_trail (
    position bigint      generated always as identity primary key,
    at       timestamptz not null,
    actor    text        not null,
    what     text        not null,
    about    text,
    detail   jsonb       not null
);
