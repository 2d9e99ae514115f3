"""服务包: packages of services, their items, whom they are for, publishing and retiring."""
