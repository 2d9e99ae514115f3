"""家庭医生签约: the life of a family-doctor contract as pure functions."""
