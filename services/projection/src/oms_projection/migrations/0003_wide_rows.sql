-- As in the stores: rows of some kilobytes stay whole, uncompressed.
alter table timeline set (toast_tuple_target = 8160);
alter table order_stock set (toast_tuple_target = 8160);
alter table captures set (toast_tuple_target = 8160);
alter table fulfillments set (toast_tuple_target = 8160);
alter table packages set (toast_tuple_target = 8160);
