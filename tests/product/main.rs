//! The whole product, by area. One binary, so that it is linked once.

mod fixture;
