mod golden;
mod running;
mod school;
