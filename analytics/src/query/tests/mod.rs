//! The engine on tables of two districts: what runs, what is refused, what each caller sees.

mod distinct;
mod limits;
mod live;
mod news;
mod parameters;
mod privacy;
mod refusals;
mod scope;
mod surroundings;
mod world;
