//! The engine on tables of two districts: what runs, what is refused, what each caller sees.

mod distinct;
mod equal;
mod limits;
mod live;
mod memory;
mod news;
mod panics;
mod parameters;
mod places;
mod privacy;
mod refusals;
mod scope;
mod surroundings;
mod values;
mod views;
mod world;
