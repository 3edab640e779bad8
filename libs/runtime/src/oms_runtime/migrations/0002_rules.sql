-- One truth about the rules that all states are folded by: a process whose own are others finds it out before it reads or writes any.

create table rules (
    fold integer                                     -- null until the first process has started
);
insert into rules select max(fold) from states;

alter table states drop column fold;
