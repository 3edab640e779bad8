-- The read models of one version: all tables of a schema of its own, in which this text is run (see versions.py).
-- Every row is folded from events alone: no clock, no serial numbers, so that a rebuild gives the same rows.
-- A column belongs to one topic, or is a sum; what a topic has not said yet is null. Amounts are minor units, times UTC.
-- Rows of some kilobytes stay whole, uncompressed, as in the stores: toast_tuple_target.
-- To change anything here, raise READ_MODELS_VERSION in tables.py.

-- oms.orders
create table orders (
    order_id       text collate "C" primary key,
    channel        text,
    reference      text collate "C",                 -- collated by bytes, as is number: a search for how it begins uses the index
    key_id         text,                             -- of the key that personal data is sealed with
    sealed         text,                             -- that data
    personal       text,                             -- the same in the clear, as JSON, where the order is from before it was sealed
    number         text collate "C",                 -- what the customer calls it
    currency       text,
    line_count     bigint,
    units          bigint,
    taxes_included bigint,                           -- 1 where the amounts of lines, shipping and fees contain their taxes, else 0
    taxes          bigint,                           -- of lines, shipping and fees
    discount       bigint,                           -- of lines and shipping
    shipping       bigint,
    fees           bigint,
    total          bigint,
    collected      bigint,                           -- the part of the total that payment collects
    payment_kind   text,
    payments       text,                             -- JSON
    delivery       text,
    promise        text,                             -- JSON, as are tags and attributes
    purchase_order text,
    tags           text,
    attributes     text,
    location       text,
    placed_at      timestamptz,                      -- of a rejected order only the time of its rejection is known
    received_at    timestamptz,                      -- accepted or rejected
    status         text,
    since          timestamptz,
    attempt        bigint,
    accepted_attempt bigint,                         -- whose content this is: lines of an earlier one no longer count
    action         text,                             -- what it waits for, '' when for nobody in particular
    action_reason  text,
    action_since   timestamptz,
    deadline       timestamptz,
    deadline_set_at timestamptz,
    cancellation   text,                             -- why somebody wants it canceled, '' when nobody does
    ended_because  text,
    conflicts      bigint not null,
    updated_at     timestamptz
) with (fillfactor = 80);
create index orders_placed on orders (placed_at, order_id);
create index orders_status on orders (status, placed_at, order_id);
create index orders_customer on orders (key_id, placed_at, order_id);
create index orders_reference on orders (lower(reference));
create index orders_number on orders (lower(number)) where number is not null;
create index orders_total on orders (total, order_id);
create index orders_deadline on orders (deadline, order_id) where deadline is not null;
create index orders_action on orders (action, placed_at, order_id) where action <> '';
create index orders_tags on orders using gin ((tags::jsonb)) where tags is not null;

-- oms.customer-keys: customers' keys, encrypted by the installation's, and keyed hashes of who it is; all empty once erased
create table customers (
    key_id      text collate "C" primary key,
    wrapped_key text,
    customer    text,
    email       text,
    words       text[]                               -- of the names in the orders
);
create index customers_customer on customers (customer) where customer <> '';
create index customers_email on customers (email) where email <> '';
create index customers_words on customers using gin (words);

-- oms.orders; shipped: oms.fulfillments; delivered: oms.tracking; returned: oms.returns
create table order_lines (
    order_id   text collate "C",
    line_id    text collate "C",
    attempt    bigint,                               -- the order's accepted_attempt that has the line
    number     bigint,
    sku        text collate "C",
    title      text,
    quantity   bigint,
    unit_price numeric,
    discount   numeric,
    taxes      bigint,
    total      bigint,
    charge     bigint,                               -- what it costs the customer, taxes included
    shippable  bigint,                               -- 1 where it is shipped, 0 where it is not
    shipped    bigint not null,
    delivered  bigint not null,
    returned   bigint not null,
    primary key (order_id, line_id)
) with (fillfactor = 80);
create index order_lines_sku on order_lines (lower(sku), order_id);
create index order_lines_title on order_lines using gin (to_tsvector('simple', title));

-- oms.orders: why orders were rejected, by the field at fault (lines.3.quantity counts as lines.quantity)
create table rejections (
    order_id text collate "C",
    field    text collate "C",
    channel  text,
    example  text,
    at       timestamptz,
    reasons  bigint not null,
    primary key (order_id, field)
);
create index rejections_field on rejections (field, at);

-- all topics: every event that concerns an order (or else its record's key), data as published. An order has some dozens of entries: they
-- are sorted when they are read. Keeping them sorted by four columns took half of writing them.
create table timeline (
    subject   text collate "C",
    time      timestamptz,
    source    text collate "C",
    position  bigint,                                -- in the source's store
    topic     text,
    sequence  bigint,                                -- in its stream
    type      text,
    causation text,
    actor     text,
    reason    text,
    data      text                                   -- JSON
) with (toast_tuple_target = 8160);
create index timeline_subject on timeline (subject);

-- oms.stock
create table stock (
    sku         text collate "C",
    location    text collate "C",
    on_hand     bigint not null,
    reserved    bigint not null,
    allocated   bigint not null,
    quarantined bigint not null,                         -- on hand, and set apart
    in_transit  bigint not null,                         -- on its way to here
    primary key (sku, location)
) with (fillfactor = 50);

-- oms.stock: every change of on hand, and of what is set apart, signed
create table stock_ledger (
    sku         text collate "C",
    position    bigint,                                  -- in inventory's store
    line        bigint,
    location    text,
    kind        text,                                    -- received, adjusted, counted, returned, shipped, written_off, …
    quantity    bigint,
    quarantined bigint,
    reference   text,                                    -- the receipt, adjustment, count, return, transfer or fulfillment
    order_id    text,
    reason_code text,
    reason      text,
    at          timestamptz,
    primary key (sku, position, line)
);

-- oms.stock: limits; without a location those of every location that has none of its own
create table stock_limits (
    sku           text collate "C",
    location      text collate "C",
    safety        bigint,
    reorder_point bigint,
    maximum       bigint,
    at            timestamptz,
    primary key (sku, location)
);

-- oms.stock: what is said of a SKU at a location: low, out, excess, shortfall, quarantine; the last two wait for a person
create table stock_signals (
    sku      text collate "C",
    location text collate "C",
    signal   text collate "C",
    holds    bigint,                                     -- 1 until it is taken back
    at       timestamptz,
    deadline timestamptz,
    primary key (sku, location, signal)
);
create index on stock_signals (signal, sku, location) where holds = 1;

-- oms.stock: goods on their way from one location to another
create table transfers (
    transfer_id   text collate "C" primary key,
    from_location text,
    to_location   text,
    reason        text,
    sent_at       timestamptz,
    at            timestamptz,
    deadline      timestamptz,
    action        text,                                  -- close_transfer, once the deadline has passed
    closed_at     timestamptz,                           -- when the rest was written off
    closed_reason text
);
create index on transfers (sent_at, transfer_id);
create table transfer_lines (
    transfer_id text collate "C",
    sku         text collate "C",
    sent        bigint not null,
    received    bigint not null,
    written_off bigint not null,
    primary key (transfer_id, sku)
);

-- oms.stock: what is held for each order, in units
create table order_stock (
    order_id   text collate "C" primary key,
    status     text,                                 -- reserved, failed, postponed, expired, requested, allocated, shipped, released
    attempt    bigint,
    lines      text,                                 -- JSON: what was last reserved or allocated
    shortages  text,                                 -- JSON, as is unknown_skus
    unknown_skus text,                               -- those without an active product
    expires_at timestamptz,
    at         timestamptz,
    reserved   bigint not null,
    allocated  bigint not null,
    shipped    bigint not null
) with (fillfactor = 80, toast_tuple_target = 8160);

-- oms.products
create table products (
    sku               text collate "C" primary key,
    title             text,
    barcode           text,
    unit              text,
    weight_grams      bigint,                        -- of one unit
    requires_shipping bigint,                        -- 1 where it is shipped, 0 where it is delivered digitally
    active            bigint,                        -- 1 where it is sold, else 0
    defined_at        timestamptz,
    updated_at        timestamptz
);
create index products_sku on products (lower(sku));
create index products_barcode on products (barcode) where barcode is not null;
create index products_title on products using gin (to_tsvector('simple', title));

-- oms.payments
create table payments (
    order_id      text collate "C" primary key,
    currency      text,
    status        text,                              -- what happened last to the order's money
    at            timestamptz,
    attempt       bigint,
    next_check_at timestamptz,                       -- of an outcome that is unknown
    failure       text,                              -- the newest reason why a person must see to it
    to_collect    bigint,                            -- what somebody was asked to collect; 0 with no collect_by once nobody is
    collect_by    timestamptz,                       -- by when
    failures      bigint not null,
    authorized    bigint not null,
    captured      bigint not null,
    refunded      bigint not null,
    written_off   bigint not null
) with (fillfactor = 80);
create index payments_at on payments (at, order_id);
create index payments_status on payments (status, at, order_id);
create index payments_failed on payments (order_id) where failures > 0;

create table authorizations (
    order_id         text collate "C",
    authorization_id text collate "C",
    attempt          bigint,
    amount           bigint,
    at               timestamptz,
    expired_at       timestamptz,                    -- nothing more is captured of it
    voided_at        timestamptz,
    void_failure     text,
    primary key (order_id, authorization_id)
);

create table captures (
    order_id       text collate "C",
    fulfillment_id text collate "C",
    status         text,                             -- requested, captured, refused (it is asked for again), failed, written_off
    requested      bigint,
    lines          text,                             -- JSON
    failure        text,
    at             timestamptz,
    captured       bigint not null,
    times          bigint not null,                  -- how often money was taken: never more than once
    primary key (order_id, fulfillment_id)
) with (toast_tuple_target = 8160);

create table refunds (
    order_id  text collate "C",
    refund_id text collate "C",
    status    text,                                  -- postponed, requested, settled, failed
    requested bigint,
    reason    text,
    at        timestamptz,
    refunded  bigint not null,
    times     bigint not null,
    primary key (order_id, refund_id)
);

-- oms.fulfillments; delivered: oms.tracking. Units of the whole order.
create table deliveries (
    order_id        text collate "C" primary key,
    canceled_at     timestamptz,
    canceled_reason text,
    last_shipped_at timestamptz,
    planned         bigint not null,
    shipped         bigint not null,
    delivered       bigint not null
) with (fillfactor = 80);

create table fulfillments (
    order_id       text collate "C",
    fulfillment_id text collate "C",
    location       text,
    delivery       text,
    status         text,                             -- planned, accepted, picked, packed (some of it), shipped
    lines          text,                             -- JSON
    planned_at     timestamptz,
    at             timestamptz,
    shipped_at     timestamptz,
    packages       bigint not null,
    primary key (order_id, fulfillment_id)
) with (fillfactor = 80, toast_tuple_target = 8160);
create index fulfillments_planned on fulfillments (planned_at, order_id, fulfillment_id);
create index fulfillments_location on fulfillments (location, planned_at, order_id, fulfillment_id);
create index fulfillments_open on fulfillments (planned_at, order_id, fulfillment_id) where shipped_at is null;

-- oms.fulfillments; status, status_at, trouble and late_scans: oms.tracking
create table packages (
    order_id        text collate "C",
    package_id      text collate "C",
    fulfillment_id  text,
    lines           text,                            -- JSON
    packed_at       timestamptz,
    carrier         text,
    tracking_number text collate "C",
    shipped_at      timestamptz,
    status          text,                            -- what the carrier said last
    status_at       timestamptz,
    trouble         text,
    late_scans      bigint not null,                 -- late or repeated
    primary key (order_id, package_id)
) with (fillfactor = 80, toast_tuple_target = 8160);
create index packages_packed on packages (packed_at, order_id, package_id);
create index packages_trouble on packages (packed_at, order_id, package_id) where trouble is not null;
create index packages_id on packages (lower(package_id));
create index packages_tracking_number on packages (lower(tracking_number)) where tracking_number is not null;

-- oms.returns
create table return_windows (
    order_id  text collate "C" primary key,
    opened_at timestamptz,
    closes_at timestamptz
);

create table returns (
    order_id         text collate "C",
    return_id        text collate "C",
    status           text,                           -- requested, approved, declined, received, inspected, refunding, closed, canceled, expired
    at               timestamptz,
    lines            text,                           -- JSON
    inspected        text,                           -- JSON
    location         text,
    reason           text,
    expires_at       timestamptz,
    requested_at     timestamptz,
    refund_requested bigint,
    outcome          text,
    refunded         bigint,
    action           text,                           -- what it waits for, '' when for nobody in particular
    deadline         timestamptz,
    received         bigint not null,
    primary key (order_id, return_id)
) with (fillfactor = 80);
create index returns_requested on returns (requested_at, order_id, return_id);
create index returns_waiting on returns (deadline, order_id, return_id) where action <> '';

-- oms.<service>.dead-letters
create table letters (
    service          text collate "C",
    letter_id        text collate "C",
    status           text,                           -- set_aside, parked, redriven, discarded
    at               timestamptz,
    source_topic     text,
    source_partition bigint,
    source_offset    bigint,
    source_key       text,
    source_type      text,
    reason           text,
    stack            text,
    headers          text,                           -- JSON
    value            text,                           -- base64
    attempts         bigint,
    primary key (service, letter_id)
);
create index letters_open on letters (at, service, letter_id) where status in ('set_aside', 'parked');
create index letters_key on letters (source_key);
