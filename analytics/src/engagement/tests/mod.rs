mod carried;
mod golden;
mod running;
mod school;
